"""What `adapt` leaves in a run folder, written by hand: an adapter, or a whole model."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from made_run import made_plan, made_report
from safetensors.torch import save_file

from hubq.machine.files import sha256_of
from hubq.records.adaptation import Adaptation
from hubq.records.adapted_report import AdaptedReport
from hubq.records.plan import Plan, PlannedAdaptation
from hubq.records.report import Measured, Report
from hubq.records.run_folder import (
    ADAPTATION,
    ADAPTED,
    ADAPTER,
    ADAPTER_CONFIG,
    MODEL,
    PLAN,
    REPORT,
)
from hubq.stages.plan.adapted_run import plan_of_adapted

OWN_REPO = "acme/Tiny-Llama-GPTQ-4bit-low-rank"
RANK, ALPHA = 4, 8
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "acme/to-be-named",
    "revision": None,
    "inference_mode": True,
    "r": RANK,
    "lora_alpha": ALPHA,
    "lora_dropout": 0.0,
    "bias": "none",
    "fan_in_fan_out": False,
    "target_modules": ["up_proj"],
}


def adapting(
    plan: Plan, makes: Literal["adapter", "checkpoint"] = "adapter", **publish: object
) -> Plan:
    """Return a plan of a recipe that has a section adapt, and says more on publishing."""
    options = {"name": "low_rank", "rank": RANK, "damping": 0.01, "dtype": "float32"}
    publishing = {**plan.recipe["publish"], **publish}
    recipe = {**plan.recipe, "adapt": {**options, "merge": False}, "publish": publishing}
    adaptation = PlannedAdaptation(
        name="low_rank",
        makes=makes,
        repo=OWN_REPO,
        quantized=str(publish.get("quantized") or plan.repo),
        parameters=768,
        added_bits=0.5,
        bytes=3072,
        peak_memory=1000,
        compute_dtype="bfloat16",
    )
    return plan.model_copy(update={"recipe": recipe, "adaptation": adaptation})


def lora(shapes: Mapping[str, tuple[int, int]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Draw A and B for linears of some shapes (out, in), by peft's names."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, (rows, columns) in shapes.items():
        start = f"base_model.model.{name}"
        found[f"{start}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator) / 8
        found[f"{start}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator) / 8
    return found


def put_adapter(folder: Path, shapes: Mapping[str, tuple[int, int]], seed: int = 0) -> None:
    """Write the two files of an adapter into a folder."""
    folder.mkdir(parents=True)
    save_file(lora(shapes, seed), folder / "adapter_model.safetensors")
    targets = sorted({name.rpartition(".")[2] for name in shapes})
    config = CONFIG | {"target_modules": targets}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2))


def link(model: Path, adapted: Path) -> None:
    """Fill a folder with links to the files of another."""
    for path in sorted(model.rglob("*")):
        place = adapted / path.relative_to(model)
        if path.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(path, place.parent))


def made_adaptation(
    files: Mapping[str, str], makes: Literal["adapter", "checkpoint"] = "adapter"
) -> Adaptation:
    """Return what became of a run whose adapted model has these files."""
    return Adaptation(
        name="low_rank",
        makes=makes,
        files=dict(files),
        weight_bytes=3072,
        parameters=768,
        added_bits=0.5,
        seconds=1.5,
        seconds_by_part={"solving": 1.0},
        peak_memory=1000,
        device="cpu (Imaginary 9000)",
        versions={"torch": "2.13.0"},
        compute_dtype="bfloat16",
    )


def adapt_by_hand(
    run: Path,
    shapes: Mapping[str, tuple[int, int]],
    makes: Literal["adapter", "checkpoint"] = "adapter",
) -> Adaptation:
    """Fill run/adapted as `adapt` would: with an adapter, or a copy of the whole model."""
    folder = run / ADAPTED / MODEL
    if makes == "adapter":
        link(run / MODEL, folder)
        put_adapter(folder / ADAPTER, shapes)
    else:
        shutil.copytree(run / MODEL, folder)
    published = folder / ADAPTER if makes == "adapter" else folder
    files = {path.name: sha256_of(path) for path in sorted(published.iterdir()) if path.is_file()}
    adaptation = made_adaptation(files, makes)
    adaptation.save(run / ADAPTED / ADAPTATION)
    return adaptation


def adapted_report(
    report: Report | None = None, adaptation: Adaptation | None = None
) -> AdaptedReport:
    """Return the report of an adapted model whose numbers are those of another report."""
    report = report or made_report(plan=adapting(made_plan()))
    files = {ADAPTER_CONFIG: "2" * 64, "adapter_model.safetensors": "3" * 64}
    measured = {name: getattr(report, name) for name in Measured.model_fields}
    return AdaptedReport(
        **measured,
        plan=plan_of_adapted(report.plan),
        checkpoint=report.checkpoint,
        adaptation=adaptation or made_adaptation(files),
        unadapted=Measured(**measured),
        gained=Measured(**measured),
    )


def make_adapted(
    run: Path,
    report: Report,
    makes: Literal["adapter", "checkpoint"] = "adapter",
    **publish: object,
) -> AdaptedReport:
    """Let a finished run be one of a recipe that adapts, up to the report, and return that."""
    quantized = report.model_copy(update={"plan": adapting(report.plan, makes, **publish)})
    adaptation = adapt_by_hand(run, {"model.layers.0.mlp.up_proj": (128, 64)}, makes)
    adapted = adapted_report(quantized, adaptation)
    for folder, each in ((run, quantized), (run / ADAPTED, adapted)):
        each.plan.save(folder / PLAN)
        each.save(folder / REPORT)
    return adapted
