"""One adaptation: what is trained or computed of run/model, written, counted and measured."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.device import (
    best_device,
    device_title,
    keep_freed_memory,
    synchronize,
)
from hubq.machine.files import partial_folder, put_in_place, sha256_of
from hubq.machine.meters import peak, reset_peaks
from hubq.machine.progress import Clock, Progress
from hubq.methods.adapters import Adapter, TrainedAdapter
from hubq.methods.adapters.branches.correction import Correction
from hubq.methods.adapters.branches.elastic import ElasticBranch
from hubq.methods.adapters.branches.lora import Branch
from hubq.methods.adapters.branches.scales import Scales
from hubq.methods.adapters.low_rank import LowRank
from hubq.methods.adapters.peqa import PEQA
from hubq.methods.adapters.qlora import QLoRA
from hubq.records.adaptation import Adaptation, AdaptedLayer, Taught
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.run_folder import ADAPTED, ADAPTER, MODEL, STEPS
from hubq.sources.instructions.tokens import Examples, examples
from hubq.stages.adapt.adapter_files import write
from hubq.stages.adapt.correcting import calibration_of, corrections
from hubq.stages.adapt.frozen_model import Beside, FrozenLinear, Replace, frozen_model
from hubq.stages.adapt.training import Trained, train
from hubq.stages.adapt.whole_folder import merged, requantized, write_with
from hubq.stages.plan.adapted_run import belongs_to
from hubq.stages.quantize.accounts import Calibration, lock_of
from hubq.stages.quantize.quantization import PACKAGES
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import Affine, QuantizedTensor
from hubq.tensors.thin import moved

ROUNDED = (
    "Readers of bitsandbytes' INT8 round what goes into linears too, save what is far out; the "
    "training left that as it is."
)
TRAINING = "training-"  # begins the name of a folder of states


class Adapting:
    """A plan's section adapt, and what came of it."""

    def __init__(self, plan: Plan, checkpoint: Checkpoint, run: Path, client: Client) -> None:
        recipe = Recipe.model_validate(plan.recipe)
        assert recipe.adapt is not None
        assert plan.adaptation is not None
        self.plan, self.planned, self.checkpoint = plan, plan.adaptation, checkpoint
        self.adapter: Adapter = recipe.adapt
        self.run, self.own = run, run / ADAPTED
        self.client = client
        self.device = best_device()
        self.dtype: torch.dtype = getattr(torch, plan.adaptation.compute_dtype)
        self.clock = Clock(partial(synchronize, self.device.type))
        self.corrections: dict[str, Correction] = {}
        self.taught: Taught | None = None
        self.trained: Trained | None = None
        self.calibration: Calibration | None = None
        self.facts = [self.adapter.remark] if self.adapter.remark else []
        rounds = getattr(recipe.method, "data_type", None) == "int8"
        if rounds and isinstance(self.adapter, TrainedAdapter):
            self.facts.append(ROUNDED)
        reset_peaks(self.device.type)

    def make(self, progress: Progress) -> None:
        """Train or compute, and write run/adapted/model in one step."""
        keep_freed_memory()
        match self.adapter:
            case PEQA():
                self._write_scaled(self._scaled(self.adapter, progress))
            case LowRank():
                self.corrections = self._corrected(self.adapter, progress)
                dtype: torch.dtype = getattr(torch, self.adapter.dtype)
                rank = self.adapter.rank
                self._write(partial(write, alpha=rank, rank=rank, dtype=dtype), 1.0, progress)
            case QLoRA(alpha=alpha, rank=rank):
                self._teach(self.adapter, progress)
                written = partial(write, alpha=alpha, rank=rank, dtype=torch.float32)
                self._write(written, self.adapter.scaling, progress)

    def _teach(self, adapter: QLoRA, progress: Progress) -> None:
        """Train branches beside the linears; fold them into corrections."""
        examples = self._examples(adapter)
        start = {}
        if adapter.start == "low_rank":
            start = self._corrected(LowRank(rank=adapter.rank, dtype="float32"), progress)

        def beside(name: str, quantized: QuantizedTensor, linear: nn.Linear) -> nn.Module:
            self._require_supported(name, quantized)
            branch = adapter.branch(name, quantized.shape, start.get(name)).to(self.device)
            return Beside(FrozenLinear(quantized, linear), branch)

        model = self._model(beside)
        self._train(model, examples, adapter, progress)
        for name, module in model.named_modules():
            if isinstance(module, Beside):
                a, b = module.branch.folded()
                self.corrections[name] = Correction(a.cpu(), b.cpu(), _facts(module.branch))

    def _scaled(self, adapter: PEQA, progress: Progress) -> dict[str, QuantizedTensor]:
        """Train the scales of the linears; return the linears with the new ones."""

        def scales(name: str, quantized: QuantizedTensor, linear: nn.Linear) -> nn.Module:
            self._require_supported(name, quantized)
            assert isinstance(quantized, Affine)
            return Scales(quantized, linear.bias, linear.weight.dtype)

        examples = self._examples(adapter)
        model = self._model(scales)
        self._train(model, examples, adapter, progress)
        found = [(name, each) for name, each in model.named_modules() if isinstance(each, Scales)]
        return {name: moved(each.finished(), torch.device("cpu")) for name, each in found}

    def _corrected(self, adapter: LowRank, progress: Progress) -> dict[str, Correction]:
        """Compute the best corrections on the calibration text."""
        with self.clock.timing("correcting"):
            options = (adapter.rank, adapter.damping, adapter.dtype)
            found = corrections(self.plan, self.run, self.client, progress, *options)
        self.calibration = calibration_of(self.run)
        return found

    def _examples(self, adapter: TrainedAdapter) -> Examples:
        """Read the pairs as tokens."""
        with self.clock.timing("tokens"):
            found = examples(adapter, self.run / MODEL, self.client)
        self.taught = found.taught
        return found

    def _model(self, replace: Replace) -> Any:  # noqa: ANN401 - of transformers
        """Read run/model with something else for each linear."""
        with self.clock.timing("reading"):
            return frozen_model(self.run / MODEL, self.device, self.dtype, replace)

    def _require_supported(self, name: str, quantized: QuantizedTensor) -> None:
        if reason := self.adapter.why_unsupported(quantized):
            raise UserError(f"{name} can't be adapted: {reason}")

    def _train(
        self,
        model: Any,  # noqa: ANN401 - of transformers
        examples: Examples,
        adapter: TrainedAdapter,
        progress: Progress,
    ) -> None:
        """Train what isn't frozen, from a state of this very training if there is one."""
        parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        base = sorted(self.checkpoint.files.items())
        options = (adapter.model_dump(mode="json"), self.plan.recipe.get("calibration"))
        digest = digest_of(examples, options, base, self.planned.compute_dtype)
        folder = self.own / STEPS / f"{TRAINING}{digest[:16]}"
        for other in (self.own / STEPS).glob(f"{TRAINING}*"):
            if other != folder:
                shutil.rmtree(other)
        with self.clock.timing("training"):
            self.trained = train(model, parameters, examples, adapter, folder, progress)

    def _write(
        self, write_adapter: Callable[..., None], scaling: float, progress: Progress
    ) -> None:
        """Write the adapter beside links to the quantized model's files, or both merged."""
        with self.clock.timing("writing"):
            if self.adapter.merge:
                self._merge(scaling, progress)
                return
            target = partial_folder(self.own / MODEL)
            self._link(target)
            write_adapter(target / ADAPTER, self.corrections, base=self._base())
            put_in_place(target, self.own / MODEL)

    def _merge(self, scaling: float, progress: Progress) -> None:
        """Write model and adapter as one, in 16 bits or quantized again."""
        again = self.adapter.merge == "requantized"
        whole = self.own / STEPS / "merged" if again else self.own / MODEL
        told = merged(self.plan, self.run / MODEL, whole, self.corrections, scaling)
        if again:
            told = requantized(self.plan, self.run, whole, self.client, progress).facts
        self.facts += told

    def _write_scaled(self, scaled: Mapping[str, QuantizedTensor]) -> None:
        """Write run/model with other scales."""
        with self.clock.timing("writing"):
            write_with(self.run / MODEL, self.own / MODEL, scaled)

    def _link(self, target: Path) -> None:
        """Make relative links to the files of run/model, right where the folder will be."""
        base = self.run / MODEL
        for path in sorted(path for path in base.rglob("*") if path.is_file()):
            inside = path.relative_to(base)
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            (target / inside).symlink_to(os.path.relpath(path, (self.own / MODEL / inside).parent))

    def _base(self) -> str | None:
        """Return the Hub id of what the adapter belongs to; None where it has none."""
        found = belongs_to(self.plan)
        return found and found.partition("@")[0]

    def record(self, seconds: float) -> Adaptation:
        """Sum up what was made."""
        makes = self.planned.makes
        folder = self.own / MODEL / (ADAPTER if makes == "adapter" else "")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        trained = self.trained
        return Adaptation(
            name=self.planned.name,
            makes=makes,
            merged={True: "16-bit", "requantized": "requantized"}.get(self.adapter.merge),
            files={path.relative_to(folder).as_posix(): sha256_of(path) for path in files},
            weight_bytes=sum(
                each.stat().st_size for each in files if each.suffix == ".safetensors"
            ),
            parameters=self.planned.parameters,
            added_bits=self.planned.added_bits,
            layers=tuple(
                AdaptedLayer(name=name, facts=each.facts) for name, each in self.corrections.items()
            ),
            taught=self.taught,
            steps=self.adapter.steps if isinstance(self.adapter, TrainedAdapter) else 0,
            curve=trained and trained.curve,
            held_out=trained and trained.held_out,
            calibration_tokens=self.calibration.tokens if self.calibration else 0,
            calibration_text=self.calibration.text if self.calibration else None,
            facts=tuple(self.facts),
            seconds=round(seconds, 2),
            seconds_by_part={name: round(each, 2) for name, each in self.clock.seconds.items()},
            peak_memory=peak("cpu"),
            device_memory=peak("cuda") if self.device.type == "cuda" else None,
            device=device_title(self.device),
            versions={name: version(name) for name in PACKAGES},
            compute_dtype=self.planned.compute_dtype,
            lock=lock_of(self.device),
        )


def digest_of(examples: Examples, *others: object) -> str:
    """Return what tells one training from another, as hex: its pairs, its options, its base."""
    digest = hashlib.sha256(repr(others).encode())
    for each in (*examples.train, "held out", *examples.held_out):
        digest.update(repr(each).encode())
    return digest.hexdigest()


def _facts(branch: Branch) -> dict[str, float]:
    """Return the weights of a branch's connections, which are in its matrices now."""
    if not isinstance(branch, ElasticBranch):
        return {}
    return {"averaged": branch.averaged.item(), "copied": branch.copied.item()}
