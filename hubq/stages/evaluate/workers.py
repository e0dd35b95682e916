"""Start the fresh processes that measure a model, relay what they say, and raise what stopped them.

On a CPU two processes of half the threads each share the tasks: two threads in one matrix product
wait for one another at its end, many times a millisecond, and lose most of their speed as soon as
another process wants a core; and the import of the libraries, the loading and all Python code take
one core whatever there is. Each model is loaded twice then, so there must be memory for that.
"""

import json
import queue
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple, Self

from hubq.errors import PassingError, UserError
from hubq.machine.meters import available
from hubq.machine.progress import Advance, Progress
from hubq.machine.shortages import died_of_memory, out_of_memory
from hubq.sources.task_names import is_offline, own_tasks
from hubq.stages.evaluate.fit import VARIABLE
from hubq.stages.evaluate.fork_server import WorkerStart
from hubq.stages.evaluate.jobs import Job
from hubq.stages.evaluate.measurements.efficiency import EfficiencyTask
from hubq.stages.evaluate.processes import Worker, can_fork, forked, spawned

MEASURING = "hubq.stages.evaluate.worker"
MOST = 2  # workers that share a job
# Memory that a worker may take: so many times the bytes of the weights as they lie on the disk (in
# float32 twice those of bfloat16, packed ones many times as much), and the libraries.
ROOM, ROOM_PACKED = 3, 16
LIBRARIES = 1 << 30  # bytes
LAST_LINES = 15  # of a broken worker's log, for the error message

Message = tuple[int, str | None]  # which worker, and a line of its output; None: it closed that


class Stopped(NamedTuple):
    """Which worker stopped before its work was done."""

    worker: int
    refusal: str | None  # what it refused; None: it broke
    passes: bool = False  # whether that may pass by itself


class Broken(NamedTuple):
    """How a worker ended that neither did its work nor said why."""

    code: int  # of its exit, negative for a signal
    log: str  # the last lines


def workers_for(job: Job) -> int:
    """Say how many workers measure a job side by side."""
    import torch

    groups = {order.group for order in job.orders if order.task.kind != "load"}
    if job.device != "cpu" or torch.get_num_threads() < MOST or len(groups) < MOST:
        return 1
    return MOST if available(job.device) > MOST * memory_of(job.folder) else 1


def memory_of(folder: Path) -> int:
    """Return the bytes that a worker takes at most, roughly."""
    from hubq.sources.shards import adapter_bytes, index

    tensors = index(folder).values()
    packed = any(info.dtype in ("I32", "I64", "U8", "I8") for info in tensors)
    size = sum(info.end - info.begin for info in tensors)
    return (ROOM_PACKED if packed else ROOM) * size + ROOM * adapter_bytes(folder) + LIBRARIES


def run(job: Job, workers: int, environment: Mapping[str, str], progress: Progress) -> None:
    """Let so many workers do a job; raise UserError with what one of them refused."""
    with tempfile.TemporaryDirectory(prefix="hubq-evaluate-") as folder:
        place = Path(folder)
        if workers > 1:
            job = job.model_copy(update={"shared": place, "threads": _threads(workers)})
        job.save(place / "job.json")
        start = WorkerStart(module=MEASURING, job=place / "job.json", environment=dict(environment))
        broken = carry_out(start, workers, _may_fork(job), progress)
    if broken is not None:
        raise _explained(broken, job)


def carry_out(
    start: WorkerStart,
    workers: int,
    fork: bool,
    progress: Progress,
    meanwhile: Callable[[], object] = lambda: None,
) -> Broken | None:
    """Let so many workers do a job; raise UserError with what one refused, return how one broke.

    `meanwhile` is called once they are at work. Files of theirs go into the folder of the job's.
    """
    place = start.job.parent
    start.save(place / "start.json")
    begin = forked if fork else spawned
    logs = [place / f"{number}.log" for number in range(workers)]
    with ExitStack() as running:
        started = [running.enter_context(begin(start, log)) for log in logs]
        meanwhile()
        stopped = _relay(started, progress)
        if stopped is None:
            return None
        if stopped.refusal is not None:
            raise (PassingError if stopped.passes else UserError)(stopped.refusal)
        lines = logs[stopped.worker].read_text(errors="replace").splitlines()
        return Broken(started[stopped.worker].wait(), "\n".join(lines[-LAST_LINES:]))


def _room(job: Job) -> str:
    """Say what lets a model be measured in less memory."""
    batches = [each.task.batch for each in job.orders if isinstance(each.task, EfficiencyTask)]
    is_whole = job.by_blocks is None
    ways = [
        f"{VARIABLE}=blocks, which holds one block at a time" if is_whole and not batches else "",
        "evaluate: {dtype: bfloat16}, which takes half" if job.dtype == "float32" else "",
        "OMP_NUM_THREADS=1, with which one process measures" if job.shared else "",
        "a smaller evaluate: {efficiency: {batch: ...}}" if max(batches, default=1) > 1 else "",
        "a machine with more of it",
    ]
    loaded = "the model is loaded whole here. " if is_whole else ""
    return f"{loaded}Free memory, or use {', or '.join(filter(None, ways))}"


def _may_fork(job: Job) -> bool:
    """Tell whether a forked worker measures the same as one that imports all it needs."""
    costs = any(order.task.alone for order in job.orders)
    return can_fork(job.device) and not costs


def _threads(workers: int) -> int:
    """Share the threads of this process among workers."""
    import torch

    return max(1, torch.get_num_threads() // workers)


def _relay(workers: Sequence[Worker], progress: Progress) -> Stopped | None:
    """Pass on what the workers say until all are done or one stops, which ends the others."""
    lines: queue.SimpleQueue[Message] = queue.SimpleQueue()
    listening = [
        Thread(target=_listen, args=(number, worker, lines), daemon=True)
        for number, worker in enumerate(workers)
    ]
    for thread in listening:
        thread.start()
    try:
        return _passed_on(workers, lines, progress)
    finally:
        for worker in workers:
            worker.kill()
        for thread in listening:
            thread.join()


def _passed_on(
    workers: Sequence[Worker],
    lines: "queue.SimpleQueue[Message]",
    progress: Progress,
) -> Stopped | None:
    """Read what all workers say, in the order in which it comes."""
    with ExitStack() as shown:
        told = [shown.enter_context(Telling(progress)) for _ in workers]
        at_work = len(workers)
        while at_work:
            number, line = lines.get()
            if line is None:
                if workers[number].wait() != 0:
                    return Stopped(number, None)
                at_work -= 1
                continue
            message = json.loads(line)
            if "refused" in message:
                return Stopped(number, message["refused"], message.get("passes", False))
            told[number].pass_on(message)
    return None


def _listen(number: int, worker: Worker, lines: "queue.SimpleQueue[Message]") -> None:
    """Put what a worker says where one thread reads it of all."""
    assert worker.stdout is not None
    for line in worker.stdout:
        lines.put((number, line))
    lines.put((number, None))


class Telling:
    """What one worker says of its tasks, as tasks of a Progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.open: dict[int, ExitStack] = {}  # by the number of the task
        self.advances: dict[int, Advance] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in reversed(self.open.values()):
            task.__exit__(kind, error, trace)  # what is interrupted is not done

    def pass_on(self, message: Mapping[str, Any]) -> None:
        """Begin a task, advance it, or end it."""
        number = message["task"]
        if "begin" in message:
            self.open[number] = ExitStack()
            task = self.progress.task(message["begin"], message["total"])
            self.advances[number] = self.open[number].enter_context(task)
        elif "advance" in message:
            self.advances[number](message["advance"])
        elif "end" in message:
            self.open.pop(number).close()


def _explained(broken: Broken, job: Job) -> Exception:
    """Explain a worker that ended without saying why."""
    code, tail = broken
    if died_of_memory(code, tail):
        return UserError(out_of_memory(f"measuring {job.folder} on {job.device}", _room(job)))
    if "ConnectionError" in tail or "OfflineModeIsEnabled" in tail:
        titles = ", ".join(order.task.title for order in job.orders)
        return PassingError(
            f"the Hub can't be reached for the data of {titles}; connect, or use the tasks whose "
            f"data comes in a wheel: {', '.join(filter(is_offline, own_tasks()))}\n{tail}"
        )
    return RuntimeError(f"measuring {job.folder} failed with exit code {code}:\n{tail}")
