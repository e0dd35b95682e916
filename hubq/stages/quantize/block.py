"""One decoder block: run in phases, so that each group of linears is replaced in flight.

The modules are transformers' own, so rotary positions, biases and per-head norms are right for
every family; a phase ends where the inputs of the next group are known.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from hubq.errors import UserError
from hubq.runtime.pieces import row_pieces
from hubq.sources.skeleton import Skeleton
from hubq.stages.quantize.kv_cache import GreatestStates

BATCH_TOKENS = 4096


class Reader(Protocol):
    """A model's tensors by name, as a folder's `Weights` reads them."""

    def read(self, name: str) -> Tensor:
        """Read one tensor."""


class Block:
    """A decoder block with its weights, on a device."""

    def __init__(self, skeleton: Skeleton, index: int, weights: Reader) -> None:
        self.name = f"{skeleton.family.blocks}.{index}"
        self.skeleton = skeleton
        self.index = index
        self.module = skeleton.blocks[index]
        state = {
            name: _finite(weights.read(f"{self.name}.{name}"), f"{self.name}.{name}")
            for name in self.module.state_dict()
        }
        self.stored = state  # in the dtype of the file
        self.module.load_state_dict(
            {name: value.to(skeleton.device, skeleton.dtype) for name, value in state.items()},
            assign=True,
        )
        self.module.eval()
        self.cache: GreatestStates | None = None  # sees keys and values, where that is wanted
        # Cosines and sines of the batch that comes, (batch, length, head) each; None: from 0 on.
        self.positions: tuple[Tensor, Tensor] | None = None

    def linear(self, name: str) -> nn.Linear:
        """Return a linear by its name inside the block."""
        found = self.module.get_submodule(name)
        assert isinstance(found, nn.Linear)
        return found

    def set(self, parameter: str, value: Tensor) -> None:
        """Replace a parameter's value for the rest of the pass, in the dtype it runs in."""
        target = self.module.get_parameter(parameter)
        target.data = value.to(target.device, target.dtype)

    def forward(self, hidden: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Run the whole block on (batch, length, hidden), with other values of some parameters.

        Differentiable by the hidden states and by those values.
        """
        given = {name: value.to(hidden.dtype) for name, value in (weights or {}).items()}
        length = hidden.shape[1]
        places = {
            "position_embeddings": self._positions(hidden),
            "attention_mask": self.skeleton.mask(self.index, length),
        }
        found: Tensor = torch.func.functional_call(self.module, given, (hidden,), places)
        return found

    def into_attention(self, hidden: Tensor) -> Tensor:
        """Return what reaches q, k and v for (batch, length, hidden)."""
        return self._norm(0, hidden)

    @property
    def attention(self) -> str:
        """The full name of the module that attends."""
        return f"{self.name}.{self.skeleton.family.groups[1].linears[0].rpartition('.')[0]}"

    def out_of_attention(self, normed: Tensor) -> Tensor:
        """Return what reaches o for what reaches q, k and v, (batch, length, hidden)."""
        length = normed.shape[1]
        parent, _, output = self.skeleton.family.groups[1].linears[0].rpartition(".")
        attention = self.module.get_submodule(parent)
        with _without(attention, output):
            found = attention(
                normed,
                position_embeddings=self._positions(normed),
                attention_mask=self.skeleton.mask(self.index, length),
                past_key_values=self.cache,
            )
        heads: Tensor = found[0]
        return heads

    def into_feed_forward(self, hidden: Tensor) -> Tensor:
        """Return what reaches gate and up for (batch, length, hidden)."""
        return self._norm(2, hidden)

    def out_of_feed_forward(self, normed: Tensor) -> Tensor:
        """Return what reaches down for what reaches gate and up, (batch, length, hidden)."""
        parent, _, output = self.skeleton.family.groups[3].linears[0].rpartition(".")
        feed_forward = self.module.get_submodule(parent)
        with _without(feed_forward, output):
            found: Tensor = feed_forward(normed)
        return found

    def _positions(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rotary cosines and sines of (batch, length, hidden)."""
        if self.positions is None:
            return self.skeleton.positions(hidden.shape[1], hidden.dtype)
        cosines, sines = (each.to(hidden.device, hidden.dtype) for each in self.positions)
        return cosines, sines

    def _norm(self, group: int, hidden: Tensor) -> Tensor:
        found: Tensor = self.module.get_submodule(self.skeleton.family.groups[group].writer)(hidden)
        return found

    def free(self) -> None:
        """Give the memory back."""
        self.stored = {}
        self.module.to("meta")


class _without:  # noqa: N801 - reads as a clause
    """Let a submodule pass its input through, inside the context."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name

    def __enter__(self) -> None:
        self.kept = getattr(self.module, self.name)
        setattr(self.module, self.name, nn.Identity())

    def __exit__(self, *_: object) -> None:
        setattr(self.module, self.name, self.kept)


def _finite(tensor: Tensor, name: str) -> Tensor:
    rows = tensor.view(len(tensor), -1)
    # One NaN or inf spoils a sum.
    sums = [rows[each].float().sum() for each in row_pieces(rows.shape, tensor.device)]
    if not torch.isfinite(torch.stack(sums)).all():
        raise UserError(f"{name} holds NaN or inf: the model's weights are damaged")
    return tensor


def batches(windows: int, length: int) -> Iterator[slice]:
    """Cut so many windows into runs of about BATCH_TOKENS tokens."""
    step = max(1, BATCH_TOKENS // length)
    for begin in range(0, windows, step):
        yield slice(begin, min(begin + step, windows))
