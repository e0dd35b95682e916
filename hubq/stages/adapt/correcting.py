"""Corrections of a quantized model, found while its calibration text flows through it.

The folder run/model is walked block by block. What a linear stands for is read from the base, what
it has become from the folder, and the pass goes on with the two matrices added: so each correction
is for the inputs that the corrected part of the model really feeds it, as GPTQ rounds a layer for
those of the quantized part. A killed walk goes on after its last finished block.
"""

import json
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from hubq.client.client import Client
from hubq.machine.device import best_device, dtype_name, keep_freed_memory, synchronize
from hubq.machine.progress import Clock, Progress
from hubq.methods import Inputs
from hubq.methods.adapters.branches.correction import Correction
from hubq.methods.adapters.low_rank import LowRank
from hubq.records.plan import Plan
from hubq.records.run_folder import ADAPTED, MODEL, STEPS
from hubq.sources import calibration_tokens
from hubq.sources.architecture import InputGroup, family_of
from hubq.sources.find import fetch_planned
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.adapt.folded_factors import FoldedFactors
from hubq.stages.adapt.quantized_modules import QuantizedModules
from hubq.stages.plan.memory import Walked
from hubq.stages.quantize.accounts import Calibration
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.flow import Flow
from hubq.stages.quantize.resuming import BlockRecord, FinishedBlocks, Keeper
from hubq.stages.quantize.streams import Room, Stream, settled
from hubq.stages.quantize.windows import Entering, Windows, embedded, kept_of
from hubq.stages.recipe.recipe import Recipe

CORRECTIONS = "corrections"  # in the folder of steps


def corrections(  # noqa: PLR0913 - the adapter's options are three of them
    plan: Plan,
    run: Path,
    client: Client,
    progress: Progress,
    rank: int,
    damping: float,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> dict[str, Correction]:
    """Return the correction of each linear of run/model, by name and in the order of the data.

    Their numbers are those that a file of the dtype holds, and so are their errors. What is
    finished is kept in run/adapted/steps until that is removed.
    """
    work = Correcting(plan, run, client, progress, LowRank(rank=rank, damping=damping, dtype=dtype))
    work.walk(progress)
    return work.found()


def calibration_of(run: Path) -> Calibration:
    """Return which text the corrections of a run were computed on."""
    return Calibration.load(_steps(run) / "calibration.json")


def _steps(run: Path) -> Path:
    return run / ADAPTED / STEPS / CORRECTIONS


class CorrectedBlock(Flow):
    """One quantized block on its way."""

    def __init__(
        self, block: Block, adapter: LowRank, factors: FoldedFactors, modules: QuantizedModules
    ) -> None:
        clock = Clock(partial(synchronize, block.skeleton.device.type))
        super().__init__(block, adapter.needs, clock)
        self.adapter, self.factors, self.modules = adapter, factors, modules
        self.found: dict[str, Correction] = {}  # by full name

    def solve(self, input_group: InputGroup, inputs: Inputs) -> None:
        """Correct the linears of a group."""
        assert inputs.gram is not None
        device = self.block.skeleton.device
        for linear in input_group.linears:
            name = f"{self.block.name}.{linear}"
            quantized = self.modules.module(name)
            wanted = self.factors.weight(linear).to(device)
            found = self.adapter.correct(wanted, quantized, inputs.gram)
            self.found[name] = found
            corrected = quantized.dequantize().to(device).addmm_(found.b, found.a)
            self.block.set(f"{linear}.weight", corrected)


class Correcting:
    """A quantized model with its base and its text, and what is finished of its corrections."""

    def __init__(
        self, plan: Plan, run: Path, client: Client, progress: Progress, adapter: LowRank
    ) -> None:
        assert plan.adaptation is not None, "only a recipe with `adapt` comes here"
        self.adapter = adapter
        self.recipe = Recipe.model_validate(plan.recipe)
        self.base = fetch_planned(self.recipe.model, plan.source, client, progress, plan.part)
        self.config = json.loads((self.base / "config.json").read_bytes())
        self.family = family_of(self.config)
        self.modules, self.weights = QuantizedModules(run / MODEL), Weights(self.base)
        self.finished = FinishedBlocks(_steps(run), flow=True)
        self.device = best_device()
        entering = self._entering(client)
        hidden, self.windows = entering.hidden, Windows(entering.weights)
        # A run that has begun goes on in its own dtype, on any machine.
        named: torch.dtype = getattr(torch, plan.adaptation.compute_dtype)
        self.dtype = hidden.dtype if self.finished.count else named
        walked = Walked(
            self.recipe, self.config, self.weights.info, dtype_name(self.dtype), adapter
        )
        room = Room(self.device, walked.place(self.device), self.finished.folder)
        self.hidden: Stream = room.holding(hidden, self.dtype)

    def _entering(self, client: Client) -> Entering:
        """Return the hidden states behind the last finished block, or the embeddings."""
        if self.finished.count:
            return Entering.of(self.finished.leaving())
        section = self.recipe.calibration
        assert section is not None, "plan refuses a correction without its calibration"
        tokens = calibration_tokens.tokens(section, self.base, client)
        calibration = Calibration(text=tokens.text, tokens=tokens.count)
        calibration.save(self.finished.folder / "calibration.json")
        table = partial(self.modules.rows, f"{self.family.embeddings}.weight")
        return embedded(tokens, table)

    @torch.no_grad()
    def walk(self, progress: Progress) -> None:
        """Correct the blocks that are not finished yet."""
        keep_freed_memory()
        steps, blocks = len(self.family.groups), int(self.config["num_hidden_layers"])
        skeleton = Skeleton(self.config, self.family, self.device, self.dtype)
        keeper = Keeper(self.finished.states)
        with keeper, progress.task("Correcting", blocks * steps) as advance:
            advance(self.finished.count * steps)
            for number in range(self.finished.count, blocks):
                flow = self._block(skeleton, number)
                flow.flow(self.hidden, partial(advance, 1), self.windows)
                self._add(flow.found)
                leaving = {"hidden": settled(self.hidden)} | kept_of(self.windows.weights)
                keeper.offer(number + 1, leaving, is_last=number + 1 == blocks)
                flow.block.free()

    def _block(self, skeleton: Skeleton, number: int) -> CorrectedBlock:
        block = Block(skeleton, number, self.modules)
        folds = self.recipe.method.folds
        factors = FoldedFactors(block.name, self.family, self.weights, self.modules, folds)
        return CorrectedBlock(block, self.adapter, factors, self.modules)

    def _add(self, found: dict[str, Correction]) -> None:
        """Write what corrects a block."""
        dtype = getattr(torch, self.adapter.dtype)
        tensors = {
            f"{name}.{part}": tensor.to(dtype)
            for name, each in found.items()
            for part, tensor in (("a", each.a), ("b", each.b))
        }
        facts = {name: each.facts for name, each in found.items()}
        self.finished.add(tensors, BlockRecord(bits={}, needed={}, errors={}, facts=facts))

    def found(self) -> dict[str, Correction]:
        """Read all corrections, as they were rounded."""
        written = Weights(self.finished.folder)
        return {
            name: Correction(
                written.read(f"{name}.a").float(), written.read(f"{name}.b").float(), facts
            )
            for record in self.finished.records
            for name, facts in record.facts.items()
        }
