"""Run folders of tiny models that answer, with reports of made-up numbers, and their bases."""

import shutil
from pathlib import Path

import hubq_folder
from made_models import full_report
from made_run import made_plan
from tiny_vision import save_tiny_vision_model

from hubq.client.client import Client
from hubq.records.plan import PlannedVision
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Report
from hubq.sources.find import find

BASE = "acme/Tiny-Llama"
THREE, FOUR = "acme/Tiny-Llama-3bit", "acme/Tiny-Llama-4bit"
SEEING_BASE, SEEING = "acme/Tiny-LLaVA", "acme/Tiny-LLaVA-4bit"
WORDS = "A llama is a domesticated camelid of South America."


def write_family(folder: Path, base: Path) -> None:
    """Write a run for each of two quantizations of a tiny model, below `folder`."""
    for name, bits, quantize in (
        (THREE, 3.0, hubq_folder.round_linears),
        (FOUR, 4.0, hubq_folder.round_all),
    ):
        run = folder / name.rpartition("/")[2]
        run.mkdir(parents=True)
        twin = hubq_folder.write(base, run / "model", quantize)
        shutil.rmtree(twin)
        section = ModelSection(folder=base, base_model=BASE)
        _report(name, bits, section).save(run / "report.json")


def write_seeing(folder: Path) -> None:
    """Write a run of a tiny model that sees, made from another: both have their own weights."""
    architecture = "LlavaNextForConditionalGeneration"
    run, base = folder / SEEING.rpartition("/")[2], folder / "base-that-sees"
    for place in (run / "model", base):
        save_tiny_vision_model(architecture, place)
    vision = PlannedVision(title="LLaVA-NeXT", architecture=architecture, part="all", stays=())
    section = ModelSection(folder=base, base_model=SEEING_BASE)
    _report(SEEING, 4.0, section, vision=vision).save(run / "report.json")


def _report(name: str, bits: float, section: ModelSection, **changes: object) -> Report:
    """Return a report of a model that a recipe's section names the base of."""
    report = full_report(name, bits, bits + 0.3)
    plan = made_plan(
        name,
        recipe=report.plan.recipe | {"model": section.model_dump(mode="json")},
        source=find(section, Client()).identity,
        base_model=section.base_model,
        nominal_bits=bits,
        **changes,
    )
    return report.model_copy(update={"plan": plan})
