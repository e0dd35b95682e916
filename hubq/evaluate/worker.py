"""The fresh process that measures one model: `python -m hubq.evaluate.worker JOB.json`.

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

from hubq.allocator import keep_freed_memory
from hubq.errors import UserError
from hubq.evaluate.efficiency import Loading, cost, engine, timed_load
from hubq.evaluate.head import require_head
from hubq.evaluate.jobs import (
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
from hubq.progress import Advance, Progress


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


def work(job: Job, progress: Progress) -> None:
    """Load the model once and carry out every order."""
    alone = any(order.task.kind == "efficiency" for order in job.orders)
    assert not alone or len(job.orders) == 1, "what is timed is timed alone"
    if not alone:  # timed is what a user's process does, which doesn't keep it either
        keep_freed_memory()
    with progress.task("load", 1) as advance:
        loading = timed_load(job)
        if not alone:
            require_head(loading.loaded.model, job.folder)
        advance(1)
    for order in job.orders:
        began = time.monotonic()
        found = _carried_out(loading, job, order, progress)
        seconds = time.monotonic() - began
        Outcome(**found, loader=loading.loaded.loader, seconds=seconds).save(order.outcome)


def _carried_out(loading: Loading, job: Job, order: Order, progress: Progress) -> dict[str, Any]:
    """Carry out one task; return what its outcome holds."""
    model, task = loading.loaded.model, order.task
    match task:
        case PerplexityTask():
            from hubq.evaluate.perplexity import perplexity

            return {"scores": perplexity(model, job.folder, task, progress)}
        case ChoiceTask():
            from hubq.evaluate.harness import choice

            return {"scores": choice(model, job.folder, task, progress)}
        case LoadTask():
            return {}
        case HiddenTask():
            from hubq.evaluate.distributions import hidden_states

            hidden_states(model, job.folder, task, states_file(order.outcome), progress)
            return {}
        case DivergenceTask():
            from hubq.evaluate.divergence import divergence

            return {"divergence": divergence(model, job.folder, task, progress)}
        case EfficiencyTask():
            return {"cost": cost(loading, job.folder, task, progress), "engine": engine(job)}


def main() -> int:
    """Read the job, do it; a UserError becomes a message and exit code 1."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print is no message
    reporting = Reporting(out)
    try:
        work(Job.load(Path(sys.argv[1])), reporting)
    except UserError as error:
        reporting.say(refused=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
