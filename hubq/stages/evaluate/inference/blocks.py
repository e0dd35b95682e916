"""Blocks that lie on the disk: each is in memory only while it runs.

Their model is transformers' own. A block is filled when something calls it, and emptied after that,
so the model runs as any other, only that each pass reads all of its files. `decoder.py` lets one
block at a time run on all batches instead.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hubq.errors import UserError
from hubq.sources.architecture import Family
from hubq.stages.evaluate.inference.dense_weights import DenseWeights


class Skipped(nn.Module):
    """What stands for a block, or for the last norm, that doesn't run."""

    def forward(self, hidden: Tensor, *_: object, **named: object) -> Tensor:
        """Let the hidden states through."""
        return hidden


class BlocksOnDisk:
    """The blocks of a model, which has none of their weights."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - transformers carries no types
        family: Family,
        weights: DenseWeights,
        like: Tensor,
    ) -> None:
        """Fill what is outside of the blocks, in the dtype and on the device of some tensor."""
        self.model, self.family, self.weights, self.like = model, family, weights, like
        self.blocks: nn.ModuleList = model.get_submodule(family.blocks)
        self.norm: nn.Module = model.get_submodule(family.norm)
        self.kept: int | None = None  # the block that stays filled between two calls
        names = model.state_dict().keys() - model.all_tied_weights_keys.keys()
        self._fill(model, "", (name for name in names if not name.startswith(f"{family.blocks}.")))
        model.tie_weights()
        for index, block in enumerate(self.blocks):
            block.register_forward_pre_hook(partial(self._before, index))
            block.register_forward_hook(partial(self._after, index))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.blocks)

    @contextmanager
    def alone(self, index: int) -> Iterator[None]:
        """Let one block be all of the decoder, with the norm if it is the last."""
        counted: list[Any] = [
            each for each in self.blocks[index].modules() if hasattr(each, "layer_idx")
        ]
        norm = self.norm if index == self.count - 1 else Skipped()
        with self._only(index, norm):
            self._before(index)
            self.kept = index
            for module in counted:
                module.layer_idx = 0  # a cache has the keys and values of this block alone
            try:
                yield
            finally:
                self.kept = None
                for module in counted:
                    module.layer_idx = index
                self._after(index)

    @contextmanager
    def skipped(self) -> Iterator[None]:
        """Let the decoder be the embeddings and the norm alone."""
        with self._only(None, self.norm):
            yield

    @contextmanager
    def _only(self, index: int | None, norm: nn.Module) -> Iterator[None]:
        self._put(
            (block if number == index else Skipped() for number, block in enumerate(self.blocks)),
            norm,
        )
        try:
            yield
        finally:
            self._put(self.blocks, self.norm)

    def _put(self, blocks: Iterable[nn.Module], norm: nn.Module) -> None:
        self.model.set_submodule(self.family.blocks, nn.ModuleList(blocks))
        self.model.set_submodule(self.family.norm, norm)

    def _before(self, index: int, *_: object) -> None:
        """Fill a block that is about to run."""
        if index != self.kept:
            block = self.blocks[index]
            self._fill(block, f"{self.family.blocks}.{index}.", block.state_dict())

    def _after(self, index: int, *_: object) -> None:
        """Empty a block that has run."""
        if index != self.kept:
            self.blocks[index].to("meta")

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _fill(self, module: nn.Module, prefix: str, names: Iterable[str]) -> None:
        """Read a module's tensors, by their names inside of it."""
        state = {name: self.weights.read(prefix + name).to(self.like) for name in names}
        module.load_state_dict(state, strict=False, assign=True)


def round_inputs(model: Any, folder: Path, quantization: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Let linears of a model without weights round what goes into them, as compressed-tensors does.

    Raises UserError where the scales for that lie in the folder, which hubq doesn't read.
    """
    # Half a second, and most models need it not.
    from compressed_tensors.quantization import (
        QuantizationConfig,
        QuantizationMetadata,
        QuantizationStatus,
        apply_quantization_config,
    )

    config = QuantizationConfig.model_validate(dict(quantization))
    rounding = [each.input_activations for each in config.config_groups.values()]
    if any(each is not None and each.dynamic is not True for each in rounding):
        raise UserError(
            f"{folder} has scales for what goes into its linears, which hubq does not read block "
            "by block: use a machine with memory for the whole model"
        )
    if not any(rounding):
        return
    apply_quantization_config(model, config, show_progress=False)
    for module in model.modules():
        if hasattr(module, "quantization_scheme"):
            QuantizationMetadata.clear_all_qparams(module)  # of the weight, which comes dense
            module.quantization_status = QuantizationStatus.DECOMPRESSED
