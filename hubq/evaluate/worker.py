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
from hubq.evaluate.jobs import Job, LoadTask, Order, Outcome, PerplexityTask, Score
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
    from hubq.evaluate.loading import load

    with progress.task("load", 1) as advance:
        loaded = load(job.folder, device=job.device, dtype=job.dtype)
        advance(1)
    for order in job.orders:
        began = time.monotonic()
        scores = _scores(loaded.model, job, order, progress)
        seconds = time.monotonic() - began
        Outcome(scores=scores, loader=loaded.loader, seconds=seconds).save(order.outcome)


def _scores(model: Any, job: Job, order: Order, progress: Progress) -> tuple[Score, ...]:  # noqa: ANN401
    """Carry out one order."""
    if isinstance(order.task, PerplexityTask):
        from hubq.evaluate.perplexity import perplexity

        return perplexity(model, job.folder, order.task, progress)
    if isinstance(order.task, LoadTask):
        return ()
    from hubq.evaluate.harness import choice

    return choice(model, job.folder, order.task, progress)


def main() -> int:
    """Read the job, do it; a UserError becomes a message and exit code 1."""
    keep_freed_memory()
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
