"""The fresh process that measures one model: `python -m hubq.stages.evaluate.worker JOB.json`.

Standard output carries one JSON message a line for the parent; everything that libraries print goes
to standard error, which the parent keeps. Each outcome is saved as soon as it is known.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from hubq.errors import UserError
from hubq.machine.device import keep_freed_memory
from hubq.machine.progress import Advance, Progress
from hubq.stages.evaluate.cost import Loading, cost, engine, timed_load
from hubq.stages.evaluate.inference.lm_head import require_head
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.jobs import (
    ChoiceTask,
    DivergenceTask,
    EfficiencyTask,
    HiddenTask,
    Job,
    LoadTask,
    Order,
    Outcome,
    PerplexityTask,
    states_file,
)


class Reporting:
    """A Progress that tells the parent process."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def say(self, **message: object) -> None:
        """Send one message."""
        print(json.dumps(message), file=self.out, flush=True)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Announce a task, pass its steps on, and say when it ends."""
        self.say(begin=title, total=total)
        yield lambda steps: self.say(advance=steps)
        self.say(end=title)


class Share:
    """What a worker does of a job: each group of orders is done by whoever takes it first."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.taken: set[str] = set()

    def takes(self, order: Order) -> bool:
        """Take an order's group, unless another worker was faster."""
        if self.folder is None or order.group in self.taken:
            return True
        try:
            (self.folder / f"{order.group}.taken").touch(exist_ok=False)
        except FileExistsError:
            return False
        self.taken.add(order.group)
        return True


def work(job: Job, progress: Progress) -> None:
    """Load the model once and carry out every order, or those that no other worker takes."""
    if job.threads is not None:
        import torch

        torch.set_num_threads(job.threads)
    alone = any(order.task.kind == "efficiency" for order in job.orders)
    assert not alone or len(job.orders) == 1, "what is timed is timed alone"
    if not alone:  # timed is what a user's process does, which doesn't keep it either
        keep_freed_memory()
    with progress.task("load", 1) as advance:
        loading = timed_load(job)
        if not alone:
            require_head(loading.loaded.model, job.folder)
        advance(1)
    share, tasks = Share(job.shared), [order.task for order in job.orders if _in_dtype(order, job)]
    passes = Passes(loading.loaded.model, job.folder, tasks)
    for order in filter(share.takes, job.orders):
        began = time.monotonic()
        found = _carried_out(loading, passes, job, order, progress)
        seconds = time.monotonic() - began
        Outcome(**found, loader=loading.loaded.loader, seconds=seconds).save(order.outcome)


def _in_dtype(order: Order, job: Job) -> bool:
    """Tell whether an order is carried out with the model as the job loads it."""
    return not isinstance(order.task, HiddenTask) or order.task.precision in (None, job.dtype)


def _carried_out(
    loading: Loading, passes: Passes, job: Job, order: Order, progress: Progress
) -> dict[str, Any]:
    """Carry out one task; return what its outcome holds."""
    task = order.task
    match task:
        case PerplexityTask():
            from hubq.stages.evaluate.perplexity import perplexity

            return {"scores": perplexity(passes, task, progress)}
        case ChoiceTask():
            from hubq.stages.evaluate.lm_eval_tasks import choice

            return {"scores": choice(passes.model, job.folder, task, progress)}
        case LoadTask():
            return {}
        case HiddenTask():
            from hubq.stages.evaluate.distributions import hidden_states

            if not _in_dtype(order, job):
                assert task.precision is not None
                exact = load(job.folder, device=job.device, dtype=task.precision).model
                passes = Passes(exact, job.folder)
            hidden_states(passes, task, states_file(order.outcome), progress)
            return {}
        case DivergenceTask():
            from hubq.stages.evaluate.divergence import divergence

            return {"divergence": divergence(passes, task, progress)}
        case EfficiencyTask():
            return {"cost": cost(loading, job.folder, task, progress), "engine": engine(job)}


def run(file: Path, out: TextIO) -> int:
    """Do the job of a file; a UserError becomes a message and exit code 1."""
    reporting = Reporting(out)
    try:
        work(Job.load(file), reporting)
    except UserError as error:
        reporting.say(refused=str(error))
        return 1
    return 0


def main() -> int:
    """Be a process of one's own, with messages on standard output."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print is no message
    return run(Path(sys.argv[1]), out)


if __name__ == "__main__":
    sys.exit(main())
