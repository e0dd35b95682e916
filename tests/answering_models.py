"""Run folders of tiny models that answer, with reports of made-up numbers, and their base."""

import shutil
from pathlib import Path

import hubq_folder
from made_models import full_report
from made_run import made_plan

from hubq.client.client import Client
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.find import find

BASE = "acme/Tiny-Llama"
THREE, FOUR = "acme/Tiny-Llama-3bit", "acme/Tiny-Llama-4bit"
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
        report = full_report(name, bits, bits + 0.3)
        section = ModelSection(folder=base, base_model=BASE)
        plan = made_plan(
            name,
            recipe=report.plan.recipe | {"model": section.model_dump(mode="json")},
            source=find(section, Client()).identity,
            base_model=BASE,
            nominal_bits=bits,
        )
        report.model_copy(update={"plan": plan}).save(run / "report.json")
