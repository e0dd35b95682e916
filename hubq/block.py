"""One decoder block, run in phases so that each group of linears is replaced in flight.

The modules are transformers' own, so rotary positions, biases and per-head norms are right for
every family; a phase ends where the inputs of the next group are known.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from hubq.architecture import Family
from hubq.errors import UserError
from hubq.shards import Weights

BATCH_TOKENS = 4096


# What transformers and the libraries below it raise for a config that can't be.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


class Skeleton:
    """The model without weights: the modules to fill, and the positions they share."""

    def __init__(
        self,
        config: Mapping[str, Any],
        family: Family,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Build the modules; blocks are filled on the device, in the dtype that they run in."""
        self.family = family
        self.device = device
        self.dtype = dtype
        with _understanding(config):
            model = without_weights(config)
            if type(model).__name__ != config["architectures"][0]:
                raise ValueError(f"model_type {config['model_type']} is of another architecture")
            self.config = model.config
            self.blocks: nn.ModuleList = model.get_submodule(family.blocks)
            self.norm = model.get_submodule(family.norm)
            self.rotary = type(model.model.rotary_emb)(self.config).to(device)
            tied = model.all_tied_weights_keys
            self.shapes = {  # of all tensors of the model; of a tied pair the embeddings alone
                name: tuple(each.shape)
                for name, each in model.state_dict().items()
                if name not in tied
            }

    def require_running(self) -> None:
        """Raise UserError for a config by which a block can't compute, found out without weights.

        It runs two tokens through the first block, on no device and of no values.
        """
        hidden = torch.empty(1, 2, self.config.hidden_size, device="meta")
        with _understanding(self.config.to_dict()), torch.no_grad():
            places = self.positions(2, torch.float32)
            if not all(place.isfinite().all() for place in places):
                raise ValueError("its rotary positions are not finite")
            for index in range(len(self.blocks)):
                self.mask(index, 2)
            self.blocks[0](
                hidden,
                position_embeddings=tuple(place.to("meta") for place in places),
                attention_mask=None,
            )

    @cache  # noqa: B019 - a skeleton lives as long as its walk
    def positions(self, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the rotary cosines and sines of a window, (1, length, head) each."""
        ids = torch.arange(length, device=self.device)[None]
        probe = torch.empty(1, 0, dtype=dtype, device=self.device)
        found: tuple[Tensor, Tensor] = self.rotary(probe, ids)
        return found

    def mask(self, index: int, length: int) -> Tensor | None:
        """Return the boolean mask of a sliding window that is shorter than the windows."""
        window = getattr(self.config, "sliding_window", None)
        kinds = getattr(self.config, "layer_types", None)
        if not window or window >= length or (kinds and kinds[index] != "sliding_attention"):
            return None  # plain causal attention, which needs no mask
        place = torch.arange(length, device=self.device)
        distance = place[:, None] - place[None, :]
        visible: Tensor = (distance >= 0) & (distance < window)
        return visible[None, None]


def without_weights(config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a model of transformers
    """Build the model of a config on no device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in config.items() if key != "quantization_config"}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**fields), attn_implementation="sdpa", trust_remote_code=False
        )


@contextmanager
def _understanding(config: Mapping[str, Any]) -> Iterator[None]:
    """Turn what transformers and torch raise for a contradictory config into a UserError.

    Nothing but the config is read inside, so whatever it makes them raise is the config's mistake.
    """
    try:
        yield
    except FAULTS as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"transformers makes no {str(config.get('model_type'))[:40]} of config.json: "
            f"{said if len(said) <= 300 else said[:297] + '...'}"
        ) from error


class Block:
    """A decoder block with its weights, on a device."""

    def __init__(self, skeleton: Skeleton, index: int, weights: Weights) -> None:
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
            "position_embeddings": self.skeleton.positions(length, hidden.dtype),
            "attention_mask": self.skeleton.mask(self.index, length),
        }
        found: Tensor = torch.func.functional_call(self.module, given, (hidden,), places)
        return found

    def into_attention(self, hidden: Tensor) -> Tensor:
        """Return what reaches q, k and v for (batch, length, hidden)."""
        return self._norm(0, hidden)

    def out_of_attention(self, normed: Tensor) -> Tensor:
        """Return what reaches o for what reaches q, k and v, (batch, length, hidden)."""
        length = normed.shape[1]
        parent, _, output = self.skeleton.family.groups[1].linears[0].rpartition(".")
        attention = self.module.get_submodule(parent)
        with _without(attention, output):
            found = attention(
                normed,
                position_embeddings=self.skeleton.positions(length, normed.dtype),
                attention_mask=self.skeleton.mask(self.index, length),
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
    if not torch.isfinite(tensor.sum(dtype=torch.float32)):  # one NaN or inf spoils the sum
        raise UserError(f"{name} holds NaN or inf: the model's weights are damaged")
    return tensor


def batches(windows: int, length: int) -> Iterator[slice]:
    """Cut so many windows into runs of about BATCH_TOKENS tokens."""
    step = max(1, BATCH_TOKENS // length)
    for begin in range(0, windows, step):
        yield slice(begin, min(begin + step, windows))
