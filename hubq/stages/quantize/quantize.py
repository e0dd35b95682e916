"""The stage that makes the checkpoint: walk the model, pack what the method chose, write shards."""

import shutil
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from hubq.client.client import Client
from hubq.machine.memory import VARIABLE
from hubq.machine.progress import SILENT, Progress
from hubq.machine.shortages import memory_for
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.run_folder import CHECKPOINT
from hubq.stages.quantize.ranks import ALONE, Ranks
from hubq.stages.recipe.recipe import Recipe

DOING = "quantizing"


def quantize(
    plan: Plan,
    run: Path,
    client: Client,
    progress: Progress = SILENT,
    ranks: Ranks = ALONE,
) -> Checkpoint:
    """Write run/model and run/checkpoint.json; continue where a killed run stopped.

    With ranks this is the first of them, and the others `follow`.
    """
    from hubq.stages.quantize.quantization import Quantization

    ranks.of_first(lambda: (plan, run.resolve()))
    begin = perf_counter()
    with memory_for(DOING, what_takes_less(Recipe.model_validate(plan.recipe))):
        pinned = replace(client, pinned_data=plan.data)
        work = Quantization(plan, run, pinned, progress, ranks)
        work.walk(progress)
        folder = work.assemble(run / "model")
        checkpoint = work.checkpoint(folder, perf_counter() - begin)
    checkpoint.save(run / CHECKPOINT)
    shutil.rmtree(work.finished.folder)
    return checkpoint


def follow(ranks: Ranks) -> None:
    """Do a rank's part of what the first quantizes, until that has nothing more to do."""
    from hubq.stages.quantize.quantization import Quantization

    while (job := ranks.of_first(lambda: None)) is not None:
        plan, run = job
        with memory_for(DOING, what_takes_less(Recipe.model_validate(plan.recipe))):
            Quantization(plan, run, Client(), SILENT, ranks).walk(SILENT)


def what_takes_less(recipe: Recipe) -> str:
    """Say what lets a recipe be quantized in less memory."""
    again = "free memory and run again, which goes on where it stopped"
    if recipe.calibration is None:
        return f"{again}; a block and copies of its widest linear are all that has to fit"
    section = recipe.calibration
    return (
        f"{again}, set {VARIABLE}=disk to keep hidden states in files, or lower "
        f"calibration.samples ({section.samples}) or calibration.length ({section.length}) in the "
        "recipe and run with --fresh"
    )
