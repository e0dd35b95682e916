"""Quantizing before a release is measured: in a process of its own, which leaves nothing reserved.

A GPU's memory, and what glibc was told to keep, is given back when a process ends. The process is
started as those that measure are, and where they are forked, from the same one: its libraries
quantize too. `python -m hubq.stages.publish.quantizing JOB.json` is that process.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.device import best_device
from hubq.machine.progress import Progress
from hubq.machine.shortages import died_of_memory, explain, out_of_memory
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.record import Record
from hubq.records.run_folder import BLOCKS, CHECKPOINT, PLAN, locked
from hubq.stages.evaluate.fork_server import WorkerStart
from hubq.stages.evaluate.measure import worker_environment
from hubq.stages.evaluate.processes import can_fork, fork_server_for
from hubq.stages.evaluate.workers import carry_out
from hubq.stages.quantize.quantize import DOING, quantize, what_takes_less
from hubq.stages.recipe.recipe import Recipe

MODULE = "hubq.stages.publish.quantizing"


class QuantizeJob(Record):
    """The run folder whose plan is carried out."""

    run: Path


def prepare(recipe: Recipe, client: Client) -> None:
    """Begin to import what quantizes, while something else is done, where that helps."""
    if can_fork(best_device().type):
        fork_server_for(worker_environment(_asks_a_hub(recipe), client))


def quantize_apart(
    plan: Plan, run: Path, client: Client, progress: Progress, meanwhile: Callable[[], object]
) -> Checkpoint:
    """Do what `quantize` does in a process of its own; call `meanwhile` once that is at work."""
    recipe = Recipe.model_validate(plan.recipe)
    with TemporaryDirectory(prefix="hubq-quantize-") as place:
        start = WorkerStart(
            module=MODULE,
            job=Path(place) / "job.json",
            environment=worker_environment(_asks_a_hub(recipe), client),
        )
        QuantizeJob(run=run.resolve()).save(start.job)
        fork = can_fork(best_device().type)
        broken = carry_out(start, 1, fork, progress, meanwhile)
    if broken is None:
        return Checkpoint.load(run / CHECKPOINT)
    if died_of_memory(broken.code, broken.log):
        raise UserError(out_of_memory(DOING, what_takes_less(recipe)))
    raise RuntimeError(f"quantizing in {run} failed with exit code {broken.code}:\n{broken.log}")


def _asks_a_hub(recipe: Recipe) -> bool:
    """Tell whether the weights or a text come from the Hub."""
    texts = recipe.calibration.parts if recipe.calibration else ()
    return recipe.model.hub is not None or any(text.hub or text.name for text, _ in texts)


def run(file: Path, out: TextIO) -> int:
    """Do the job of a file; what the user can mend becomes a message and exit code 1.

    The blocks are locked: where hubq itself was killed, this process lives for some moments more.
    """
    from hubq.stages.evaluate.worker import Reporting  # and with it torch

    job, reporting = QuantizeJob.load(file), Reporting(out)
    try:
        with locked(job.run / BLOCKS):
            quantize(Plan.load(job.run / PLAN), job.run, Client(), reporting)
    except BrokenPipeError:
        raise  # hubq is gone, and nobody listens
    except OSError as error:
        reporting.say(refused=explain(error))
        return 1
    except UserError as error:
        reporting.say(refused=str(error))
        return 1
    return 0


if __name__ == "__main__":
    from hubq.stages.evaluate.worker import be_a_process

    sys.exit(be_a_process(run, Path(sys.argv[1])))
