"""The stage that adapts: run/model goes in, run/adapted/model comes out."""

import shutil
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from hubq.client.client import Client
from hubq.machine.progress import SILENT, Progress
from hubq.machine.shortages import memory_for
from hubq.methods.adapters import Adapter, TrainedAdapter
from hubq.records.adaptation import Adaptation
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.run_folder import ADAPTATION, ADAPTED, STEPS
from hubq.stages.plan.adapted_run import begin
from hubq.stages.recipe.recipe import Recipe

DOING = "adapting"


def adapt(
    plan: Plan, checkpoint: Checkpoint, run: Path, client: Client, progress: Progress = SILENT
) -> Adaptation:
    """Adapt run/model as the recipe's section says, save run/adapted/adaptation.json.

    A killed run goes on where it stopped, and ends with the same bytes.
    """
    from hubq.stages.adapt.adapting import Adapting

    adapter = Recipe.model_validate(plan.recipe).adapt
    assert adapter is not None, "only a recipe with a section adapt comes here"
    began, own = perf_counter(), run / ADAPTED
    begin(plan, run)
    with memory_for(DOING, what_takes_less(adapter)):
        work = Adapting(plan, checkpoint, run, replace(client, pinned_data=plan.data))
        work.make(progress)
        adaptation = work.record(perf_counter() - began)
    adaptation.save(own / ADAPTATION)
    shutil.rmtree(own / STEPS, ignore_errors=True)
    return adaptation


def what_takes_less(adapter: Adapter) -> str:
    """Say what lets a model be adapted in less memory."""
    again = "free memory and run again, which goes on where it stopped"
    if not isinstance(adapter, TrainedAdapter):
        return again
    now = adapter.at_once or adapter.batch_size
    return (
        f"{again}, or lower adapt.at_once (now {now}), with which the training begins anew and "
        "no result changes but for rounding; adapt.rank, source_length and target_length count too"
    )
