"""One quantization: a plan with its sources opened, walked, assembled and measured."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from hubq.client.client import Client
from hubq.formats import format_named, scale_dtype
from hubq.machine.device import (
    best_device,
    compute_dtype,
    device_title,
    dtype_name,
    keep_freed_memory,
    largest_kept,
    synchronize,
)
from hubq.machine.files import partial_folder, put_in_place, sha256_of, write_atomically
from hubq.machine.meters import reset_peaks
from hubq.machine.progress import Clock, Progress
from hubq.methods import Inputs, Layer
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.run_folder import BLOCKS
from hubq.sources import calibration_tokens
from hubq.sources.auxiliary_files import AuxiliaryFiles, auxiliary_files, prompting
from hubq.sources.find import fetch_planned
from hubq.sources.license_terms import governing
from hubq.sources.shards import merge, pieces, write
from hubq.sources.skeleton import Skeleton
from hubq.sources.vision import VisionFamily
from hubq.stages.plan.memory import Walked
from hubq.stages.quantize.accounts import Calibration, block_record, layers_of, lock_of, peaks_on
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.kv_cache import GreatestStates
from hubq.stages.quantize.opened_model import OpenedModel
from hubq.stages.quantize.ranks import ALONE, Ranks
from hubq.stages.quantize.resuming import FinishedBlocks, Keeper, teacher_states
from hubq.stages.quantize.seeing import Eyes, with_pictures
from hubq.stages.quantize.streams import Room, Stream, settled
from hubq.stages.quantize.tuning import Teacher, prediction_entropy
from hubq.stages.quantize.walk import Outcome, Walk
from hubq.stages.quantize.windows import EVERY, Entering, See, embedded, kept_of
from hubq.stages.recipe.recipe import Recipe, head_method
from hubq.tensors import QuantizedTensor

UNTIED = "tie_word_embeddings is false in config.json, since the base's files hold a head too."
PACKAGES = ("hubq", "torch", "transformers", "safetensors", "numba", "numpy")


class Quantization:
    """A plan with its sources opened, and what is finished of it."""

    def __init__(
        self, plan: Plan, run: Path, client: Client, progress: Progress, ranks: Ranks = ALONE
    ) -> None:
        self.plan = plan
        self.ranks = ranks
        self.recipe = Recipe.model_validate(plan.recipe)
        self.base = ranks.of_first(
            lambda: fetch_planned(self.recipe.model, plan.source, client, progress, plan.part)
        )
        self.model = OpenedModel(self.base)
        self.config, self.family = self.model.config, self.model.family
        self.weights, self.whole = self.model.weights, self.model.whole
        self.form = format_named(self.recipe.format)
        self.scale_dtype = scale_dtype(plan.dtype, self.form)
        self.finished = FinishedBlocks(run / BLOCKS, flow=self.recipe.reads_text)
        self.device = best_device()
        self.clock = Clock(partial(synchronize, self.device.type))
        reset_peaks(self.device.type)
        # Without a text nothing runs forward, and nothing needs another dtype than the file's.
        self.dtype: torch.dtype = getattr(torch, plan.compute_dtype or plan.dtype)
        # (windows, length, hidden): what reaches the next block, and what does so unquantized.
        self.hidden: Stream | None = None
        self.taught: Stream | None = None
        self.windows = EVERY
        self.calibration: Calibration | None = None
        self.room = self._room()
        self.peaks = peaks_on(self.device)  # of the rank that takes most, once it has walked
        if self.recipe.reads_text:
            self._calibrate(client, progress)

    @property
    def quantized(self) -> dict[str, tuple[int, int]]:
        """The shapes (out, in) of the modules that the plan quantizes."""
        return {each.name: each.shape for each in self.plan.modules if each.quantized}

    def _room(self) -> Room:
        """Return where the hidden states lie on this machine."""
        walked = Walked(self._own_share(), self.config, self.weights.info, dtype_name(self.dtype))
        return Room(self.device, walked.place(self.device), self.finished.folder)

    def _own_share(self) -> Recipe:
        """Return the recipe of as many calibration windows as a rank has at most."""
        section = self.recipe.calibration
        if section is None:
            return self.recipe
        own = section.model_copy(update={"samples": -(-section.samples // self.ranks.size)})
        return self.recipe.model_copy(update={"calibration": own})

    def _calibrate(self, client: Client, progress: Progress) -> None:
        """Take the hidden states from the last finished block, or from the embeddings."""
        path = self.finished.folder / "calibration.json"
        if self.finished.count:
            self.calibration = Calibration.load(path)
            leaving = {name: self._own(each) for name, each in self.finished.leaving().items()}
            entering, taught = Entering.of(leaving), leaving.get("taught")
        else:
            section = self.recipe.calibration
            assert section is not None, "plan refuses a method without its calibration"
            tokens = self.ranks.of_first(
                lambda: calibration_tokens.tokens(section, self.base, client, self.dtype)
            )
            table = partial(self.weights.rows, f"{self.family.embeddings}.weight")
            see = self._seeing(table, progress) if tokens.seen else None
            entering = embedded(tokens, table, self._own, see)
            taught = entering.hidden.clone() if self.recipe.method.tunes else None
            self.calibration = Calibration(text=tokens.text, tokens=tokens.count)
            if self.ranks.first:
                self.calibration.save(path)
        hidden, self.windows = entering.hidden, entering.windows
        if self.plan.compute_dtype is None:  # a plan of before, perhaps of a run that has begun
            chosen = getattr(torch, compute_dtype(self.device.type, self.plan.dtype))
            self.dtype = hidden.dtype if self.finished.count else chosen
        self.hidden = self.room.holding(hidden, self.dtype)
        self.taught = None if taught is None else self.room.holding(taught, self.dtype)

    def _seeing(self, table: Callable[[Tensor], Tensor], progress: Progress) -> See:
        """Return what puts pictures among embeddings, by the part of the model that sees."""
        assert self.whole is not None, "plan refuses pictures for models that read text alone"
        like = torch.empty(0, device=self.device, dtype=self.dtype)
        return partial(with_pictures, Eyes(self.base, self.whole, table, like), progress)

    def _own(self, windows: Tensor) -> Tensor:
        """Return those of all windows that are this rank's."""
        return windows if self.ranks.size == 1 else windows[self.ranks.share(len(windows))].clone()

    def walk(self, progress: Progress) -> None:
        """Quantize the blocks that are not finished yet."""
        keep_freed_memory()  # only now: reading a text frees much that nobody needs again
        same_sizes = largest_kept() if self.hidden is None else nullcontext()
        steps = len(self.family.groups) + self.recipe.method.tuning_epochs
        blocks = int(self.config["num_hidden_layers"])
        skeleton = Skeleton(self.config, self.family, self.device, self.dtype)
        teacher = self._teacher(skeleton, progress)
        apart = {"host": ", hidden states in the host's memory", "disk": ", hidden states in files"}
        title = f"Quantizing{apart.get(self.room.place, '')}"
        keeper = Keeper(self.finished.states)
        with same_sizes, keeper, progress.task(title, blocks * steps) as advance:
            advance(self.finished.count * steps)
            for number in range(self.finished.count, blocks):
                with self.clock.timing("reading"):
                    block = Block(skeleton, number, self.weights)
                if self.recipe.kv_cache != 16:
                    block.cache = GreatestStates(self.device)
                walk = Walk(block, self.recipe.method, self.scale_dtype, self.clock, self.ranks)
                outcome = walk.run(self.hidden, partial(advance, 1), teacher, self.windows)
                if block.cache is not None:
                    outcome.dense |= block.cache.scales(
                        block.attention, getattr(torch, self.plan.dtype), self.ranks
                    )
                with self.clock.timing("writing"):
                    if self.ranks.first:
                        self._add(outcome)
                    if self.hidden is not None:
                        self._keep(keeper, number + 1, is_last=number + 1 == blocks)
                block.free()
        self.peaks = peaks_on(self.device)
        self.ranks.greatest(self.peaks)

    def _add(self, outcome: Outcome) -> None:
        """Write what a block became."""
        packed = self._packed(outcome)
        tensors = {name: each for own in packed.values() for name, each in own.items()}
        self.finished.add(outcome.dense | tensors, block_record(outcome, packed))

    def _keep(self, keeper: Keeper, passed: int, *, is_last: bool) -> None:
        """Keep the hidden states of all ranks, if the first finds that it is time."""
        if self.ranks.of_first(lambda: keeper.is_due(is_last=is_last)):
            leaving = {name: self.ranks.on_first(each) for name, each in self._leaving().items()}
            if self.ranks.first:
                keeper.keep(passed, leaving)

    def _teacher(self, skeleton: Skeleton, progress: Progress) -> Teacher | None:
        """Let the unquantized model read the calibration windows, where the method learns of it."""
        if self.taught is None:
            return None
        states = teacher_states(self.finished.folder)
        with self.clock.timing("teacher"):
            entropy = prediction_entropy(
                self.taught, skeleton, self.weights, states, progress, self.windows
            )
        return Teacher(self.taught, entropy, self.windows)

    def _leaving(self) -> dict[str, Tensor]:
        """Return the hidden states as the last block left them, and what counts of them."""
        streams = {"hidden": self.hidden, "taught": self.taught}
        states = {name: settled(each) for name, each in streams.items() if each is not None}
        return states | kept_of(self.windows)

    def _packed(self, outcome: Outcome) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that the file will hold of each quantized module."""
        return {name: self.form.pack(name, each) for name, each in outcome.quantized.items()}

    def assemble(self, folder: Path) -> Path:
        """Join the parts to a complete repo, which appears in one step."""
        written = partial_folder(folder)
        extra = self.finished.folder / "embeddings.safetensors"
        write(extra, self._rounded_embeddings())
        parts = [self.finished.part(number) for number in range(self.finished.count)]
        packed = [piece for path in (extra, *parts) for piece in pieces(path)]
        merge(self.model.written(packed, self.quantized), written)
        for name, content in self._auxiliary_files().files.items():
            write_atomically(written / name, content)
        put_in_place(written, folder)
        return folder

    def _rounded_embeddings(self) -> dict[str, Tensor]:
        """Round and pack the modules outside of the blocks that the plan quantizes."""
        packed: dict[str, Tensor] = {}
        for name in self.quantized:
            if f"{name}.weight" in self.model.outside:
                weight = self.weights.read(f"{name}.weight")
                layer = Layer(name, weight, Inputs(tokens=0), self.scale_dtype)
                packed |= self.form.pack(name, head_method(self.recipe).quantize(layer))
        return packed

    def _sketch(self, name: str, shape: tuple[int, int]) -> QuantizedTensor:
        outside = f"{name}.weight" in self.model.outside
        method = head_method(self.recipe) if outside else self.recipe.method
        return method.sketch(shape, self.scale_dtype)

    def _auxiliary_files(self) -> AuxiliaryFiles:
        """Return the files beside the weights."""
        sketches = {name: self._sketch(name, shape) for name, shape in self.quantized.items()}
        kept = [] if self.family.head in sketches else [self.family.head]
        own: dict[str, VisionFamily] = {}  # a format may know text models alone
        if self.whole is not None:
            sketches = {self.whole.in_memory(name): each for name, each in sketches.items()}
            own = {"sees": self.whole.family}
        config = self.form.config(sketches, kept, **own)
        if self.recipe.kv_cache != 16:
            config |= self.form.kv_cache_settings() or {}
        corrections = {} if self.whole is None else self.whole.corrections
        license = governing(self.plan.license, self.recipe.publish.license)
        found = auxiliary_files(
            self.base,
            config,
            dtype=self.plan.dtype,
            license=license,
            additions=self.form.config_additions(**own) | corrections,
        )
        facts = (*found.facts, UNTIED) if corrections else found.facts
        return replace(found, files={**found.files, **self.form.extra_files(config)}, facts=facts)

    def _facts(self) -> tuple[str, ...]:
        """Return the card's sentences: of method and format, and of what is not as in the base."""
        remarks = (self.recipe.method.remark, self.form.remark)
        return (*(remark for remark in remarks if remark), *self._auxiliary_files().facts)

    def checkpoint(self, folder: Path, seconds: float) -> Checkpoint:
        """Measure what lies on the disk."""
        layers = tuple(layer for each in self.finished.records for layer in layers_of(each))
        sizes = {name: math.prod(shape) for name, shape in self.quantized.items()}
        weights = sum(sizes[layer.name] for layer in layers)
        needed = sum(layer.needed_bits * sizes[layer.name] for layer in layers)
        stored = sum(layer.bits * sizes[layer.name] for layer in layers)
        weight_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        host, device, reserved = torch.maximum(self.peaks, peaks_on(self.device)).tolist()
        on_gpu = self.device.type == "cuda"
        several = f"{self.ranks.size} x " if self.ranks.size > 1 else ""
        return Checkpoint(
            files={path.relative_to(folder).as_posix(): sha256_of(path) for path in files},
            layers=layers,
            weight_bytes=weight_bytes,
            needed_bits=needed / weights,
            linear_bits=stored / weights,
            model_bits=8 * weight_bytes / self.plan.parameters,
            calibration_tokens=self.calibration.tokens if self.calibration else 0,
            calibration_text=self.calibration.text if self.calibration else None,
            facts=self._facts(),
            prompting=prompting(folder, self.base),
            seconds=round(seconds, 2),
            seconds_by_part={name: round(each, 2) for name, each in self.clock.seconds.items()},
            peak_memory=host,
            device_memory=device if on_gpu else None,
            device_reserved=reserved if on_gpu else None,
            device=f"{several}{device_title(self.device)}",
            versions={name: version(name) for name in PACKAGES},
            compute_dtype=dtype_name(self.dtype) if self.calibration else None,
            lock=lock_of(self.device),
        )
