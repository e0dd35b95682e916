"""The fresh process that measures one model: `python -m hubq.stages.evaluate.worker JOB.json`.

Standard output carries one JSON message a line for the parent; everything that libraries print goes
to standard error, which the parent keeps. Each outcome is saved as soon as it is known.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

import torch

from hubq.errors import UserError
from hubq.machine.device import keep_freed_memory, return_freed_memory, synchronize
from hubq.machine.meters import held, reset_peaks
from hubq.machine.progress import Advance, Progress
from hubq.stages.evaluate.inference.lm_head import require_head
from hubq.stages.evaluate.inference.loading import Loaded, load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.jobs import Job, Order
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.task import MeasuredModel, Outcome, TextTask


class Reporting:
    """A Progress that tells the parent process."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.begun = 0  # tasks, which may lie in one another

    def say(self, **message: object) -> None:
        """Send one message."""
        print(json.dumps(message), file=self.out, flush=True)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Announce a task, pass its steps on, and say when it ends."""
        self.begun += 1
        number = self.begun
        self.say(begin=title, total=total, task=number)
        yield lambda steps: self.say(advance=steps, task=number)
        self.say(end=title, task=number)


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


class Loading(NamedTuple):
    """A model, and what it took to load."""

    loaded: Loaded
    seconds: float
    memory: int  # bytes


def work(job: Job, progress: Progress) -> None:
    """Load the model once and carry out every order, or those that no other worker takes."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    alone = any(order.task.alone for order in job.orders)
    assert not alone or len(job.orders) == 1, "what is timed is timed alone"
    if job.by_blocks is not None:
        return_freed_memory()
    elif not alone:  # timed is what a user's process does, which doesn't keep it either
        keep_freed_memory()
    how = f"load, to run block by block: {job.by_blocks}" if job.by_blocks else "load"
    with progress.task(how, 1) as advance:
        itself = any(order.task.loads_itself for order in job.orders)  # then it is alone
        loading = Loading(Loaded(None, "vLLM"), 0.0, 0) if itself else timed_load(job)
        if not alone:
            require_head(loading.loaded.model, job.folder)
        advance(1)
    share, model = Share(job.shared), measured_model(loading, job)
    for order in filter(share.takes, job.orders):
        began = time.monotonic()
        found = order.task.carry_out(model, order.outcome, progress)
        seconds = time.monotonic() - began
        Outcome(
            **dict(found),
            loader=loading.loaded.loader,
            seconds=seconds,
            by_blocks=job.by_blocks is not None,
        ).save(order.outcome)


def measured_model(loading: Loading, job: Job) -> MeasuredModel:
    """Return a job's model as its tasks get it."""
    passes = Passes(loading.loaded.model, job.folder, _reading(job))
    return MeasuredModel(
        passes,
        job.device,
        job.dtype,
        loading.seconds,
        loading.memory,
        by_blocks=job.by_blocks is not None,
    )


def _reading(job: Job) -> Iterator[TextTask]:
    """Yield the tasks that read a text with the model as the job loads it."""
    for task in (order.task for order in job.orders):
        elsewhere = isinstance(task, HiddenTask) and not task.runs_in(job.dtype)
        if isinstance(task, TextTask) and not elsewhere:
            yield task


def timed_load(job: Job) -> Loading:
    """Load a model with all libraries in memory; say how long it took and what it holds.

    Peaks count from here: what loading takes for a while is part of them.
    """
    from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: F401 - 1.5 seconds

    reset_peaks(job.device)
    began = time.perf_counter()
    by_blocks = job.by_blocks is not None
    loaded = load(job.folder, device=job.device, dtype=job.dtype, by_blocks=by_blocks)
    synchronize(job.device)
    seconds = time.perf_counter() - began
    return Loading(loaded, seconds, held(job.device))


def run(file: Path, out: TextIO) -> int:
    """Do the job of a file; a UserError becomes a message and exit code 1."""
    reporting = Reporting(out)
    try:
        work(Job.load(file), reporting)
    except UserError as error:
        reporting.say(refused=str(error))
        return 1
    return 0


def be_a_process(work: Callable[[Path, TextIO], int], job: Path) -> int:
    """Do the job of a file, with messages on standard output."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print is no message
    return work(job, out)


if __name__ == "__main__":
    sys.exit(be_a_process(run, Path(sys.argv[1])))
