"""What comes before a release is measured: in a process of its own, which leaves nothing reserved.

A GPU's memory, and what glibc was told to keep, is given back when a process ends. The process is
started as those that measure are, and where they are forked, from the same one: its libraries
quantize and train too. `python -m hubq.stages.publish.apart JOB.json` is that process.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TextIO

from hubq.client.client import Client
from hubq.client.retries import is_transient
from hubq.errors import UserError
from hubq.machine.device import best_device
from hubq.machine.progress import Progress
from hubq.machine.shortages import died_of_memory, explain, out_of_memory
from hubq.methods.adapters import TrainedAdapter
from hubq.records.adaptation import Adaptation
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.record import Record
from hubq.records.run_folder import ADAPTATION, ADAPTED, BLOCKS, CHECKPOINT, PLAN, locked
from hubq.sources.task_names import is_offline
from hubq.stages.adapt import adapt as adapting
from hubq.stages.evaluate.fork_server import WorkerStart
from hubq.stages.evaluate.measure import worker_environment
from hubq.stages.evaluate.processes import can_fork, fork_server_for
from hubq.stages.evaluate.workers import Broken, carry_out
from hubq.stages.quantize import quantize as quantizing
from hubq.stages.recipe.recipe import Recipe

MODULE = "hubq.stages.publish.apart"


class ApartJob(Record):
    """A stage, and the run folder whose plan it carries out."""

    stage: Literal["quantize", "adapt"]
    run: Path


def prepare(recipe: Recipe, client: Client) -> None:
    """Begin to import what quantizes, while something else is done, where that helps."""
    if can_fork(best_device().type):
        fork_server_for(worker_environment(_asks_a_hub(recipe), client))


def quantize_apart(
    plan: Plan,
    run: Path,
    client: Client,
    progress: Progress,
    meanwhile: Callable[[], object] = lambda: None,
) -> Checkpoint:
    """Do what `quantize` does in a process of its own; call `meanwhile` once that is at work."""
    recipe = Recipe.model_validate(plan.recipe)
    job = ApartJob(stage="quantize", run=run.resolve())
    broken = _apart(job, recipe, client, progress, meanwhile)
    if broken is None:
        return Checkpoint.load(run / CHECKPOINT)
    raise _explained(broken, job, quantizing.DOING, quantizing.what_takes_less(recipe))


def adapt_apart(
    plan: Plan, checkpoint: Checkpoint, run: Path, client: Client, progress: Progress
) -> Adaptation:
    """Do what `adapt` does in a process of its own."""
    recipe = Recipe.model_validate(plan.recipe)
    job = ApartJob(stage="adapt", run=run.resolve())
    broken = _apart(job, recipe, client, progress)
    if broken is None:
        return Adaptation.load(run / ADAPTED / ADAPTATION)
    assert recipe.adapt is not None, "only a recipe with a section adapt comes here"
    raise _explained(broken, job, adapting.DOING, adapting.what_takes_less(recipe.adapt))


def _apart(
    job: ApartJob,
    recipe: Recipe,
    client: Client,
    progress: Progress,
    meanwhile: Callable[[], object] = lambda: None,
) -> Broken | None:
    """Let a process do a job; raise UserError with what it refused, return how it broke."""
    with TemporaryDirectory(prefix=f"hubq-{job.stage}-") as place:
        start = WorkerStart(
            module=MODULE,
            job=Path(place) / "job.json",
            environment=worker_environment(_asks_a_hub(recipe), client),
        )
        job.save(start.job)
        return carry_out(start, 1, can_fork(best_device().type), progress, meanwhile)


def _explained(broken: Broken, job: ApartJob, doing: str, way_out: str) -> Exception:
    """Explain a process that ended without saying why."""
    if died_of_memory(broken.code, broken.log):
        return UserError(out_of_memory(doing, way_out))
    return RuntimeError(f"{doing} in {job.run} failed with exit code {broken.code}:\n{broken.log}")


def _asks_a_hub(recipe: Recipe) -> bool:
    """Tell whether the weights, a text or instruction pairs come from the Hub."""
    texts = recipe.calibration.parts if recipe.calibration else ()
    texts_there = any(text.hub or (text.name and not text.sees) for text, _ in texts)
    return recipe.model.hub is not None or texts_there or _learns_from_a_hub(recipe)


def _learns_from_a_hub(recipe: Recipe) -> bool:
    if not isinstance(recipe.adapt, TrainedAdapter):
        return False
    pairs = recipe.adapt.dataset
    return pairs.hub is not None or not all(map(is_offline, pairs.tasks or ()))


def run(file: Path, out: TextIO) -> int:
    """Do the job of a file; what the user can mend becomes a message and exit code 1.

    What a job writes is locked: where hubq itself was killed, this process lives for some moments
    more.
    """
    from hubq.stages.evaluate.worker import Reporting  # and with it torch

    job, reporting = ApartJob.load(file), Reporting(out)
    try:
        with locked(job.run / (BLOCKS if job.stage == "quantize" else ADAPTED)):
            _carried_out(job, reporting)
    except BrokenPipeError:
        raise  # hubq is gone, and nobody listens
    except OSError as error:
        reporting.say(refused=explain(error))
        return 1
    except UserError as error:
        reporting.say(refused=str(error), passes=is_transient(error))
        return 1
    return 0


def _carried_out(job: ApartJob, progress: Progress) -> None:
    plan = Plan.load(job.run / PLAN)
    if job.stage == "quantize":
        quantizing.quantize(plan, job.run, Client(), progress)
    else:
        adapting.adapt(plan, Checkpoint.load(job.run / CHECKPOINT), job.run, Client(), progress)


if __name__ == "__main__":
    from hubq.stages.evaluate.worker import be_a_process

    sys.exit(be_a_process(run, Path(sys.argv[1])))
