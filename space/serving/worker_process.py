"""Models in processes of their own: one that can't be loaded or dies takes nobody else down.

Both ends of the pipe: `Worker` is the app's; `python -m serving.worker_process JOB`, a Job as JSON,
is the model's. Orders go as JSON lines to its standard input, an empty line stops the one that
runs; events come from its standard output. It ends with its input, so it never outlives the app.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue, SimpleQueue
from threading import Event as Flag
from threading import Thread
from time import monotonic
from typing import TextIO

import psutil

from hubq.machine.device import VARIABLE as COMPUTE_DTYPE
from hubq.stages.evaluate.processes import Forked, can_fork
from serving.machine import gpu_memory, model_dtype, with_hubq
from serving.messages import EVENTS, LAST, ORDERS, Event, Failed, JsonRecord, Order, Ready
from serving.worker_server import server_with

SPACE = Path(__file__).parents[1]
PROGRAM = "serving.worker_process"
LOOK = 0.05  # seconds between two looks at whether a visitor stopped
ENDING = 10.0  # seconds that a worker may take to stop or to end
LOADING = 1800.0  # seconds without a word while it loads


class Job(JsonRecord):
    """The model of a worker and its limits."""

    folder: Path
    most_input: int
    most_tokens: int
    threads: int


class Worker:
    """A process with one model, which does one thing at a time."""

    def __init__(self, job: Job, silence: float) -> None:
        self.ready = False
        self._silence = silence
        self._heard = monotonic()
        self._process = _start(job)
        self._lines: SimpleQueue[str | None] = SimpleQueue()  # None: no more will come
        Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def resident(self) -> int:
        """The bytes of the process."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:  # it has just ended
            return 0

    def load(self, stop: Flag) -> Failed | None:
        """Wait until the model is loaded; on stop it goes on loading, for the next visitor."""
        self._heard = monotonic()
        while not self.ready and not stop.is_set():
            event = self._next(LOADING)
            if isinstance(event, Failed):
                self.end()
                return event
            self.ready = isinstance(event, Ready)
        return None

    def ask(self, order: Order, stop: Flag) -> Iterator[Event]:
        """Yield what the worker answers to an order; Failed is the last when it dies."""
        event: Event | None = None
        told = False
        try:
            self._tell(order.model_dump_json())
            while not isinstance(event, LAST):
                if stop.is_set() and not told:
                    self._tell("")
                    told = True
                event = self._next(self._silence)
                if event is not None:
                    yield event
        finally:
            if not isinstance(event, LAST):
                self._settle()

    def end(self) -> None:
        """End the process: gently, else by force."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it was faster
            self._process.stdin.close()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if isinstance(self._process, Forked):
            self._process.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._heard = monotonic()
        with suppress(BrokenPipeError, ValueError):  # it is dead, as its last word will say
            print(line, file=self._process.stdin, flush=True)

    def _next(self, silence: float) -> Event | None:
        """Return the next event; None when there is none just now."""
        try:
            line = self._lines.get(timeout=LOOK)
        except Empty:
            if monotonic() - self._heard < silence:
                return None
            self._process.kill()
            self.end()
            return Failed(text=f"the model did not respond for {silence:.0f} seconds. Try again")
        if line is None:
            self._lines.put(None)
            return Failed(text=self._last_words())
        self._heard = monotonic()
        return EVENTS.validate_json(line)

    def _last_words(self) -> str:
        """Say that the process died, and of what as far as that is known."""
        self.end()
        code = self._process.returncode
        again = "Try again: it will be restarted"
        if code == -9:
            return (
                "the process of this model was killed, perhaps because memory ran out: compare "
                f"fewer models. {again}"
            )
        return f"the process of this model ended unexpectedly (code {code}). {again}"

    def _settle(self) -> None:
        """Bring an order to its end that nobody listens to any more."""
        self._tell("")
        deadline = monotonic() + ENDING
        while monotonic() < deadline:
            if isinstance(self._next(ENDING), LAST):
                return
        self._process.kill()
        self.end()


def _start(job: Job) -> "subprocess.Popen[str] | Forked":
    """Begin a process: where a fork is as good, one of a process that has imported all."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SPACE), with_hubq()]),
        "PYTHONIOENCODING": "utf-8",
        COMPUTE_DTYPE: model_dtype(),  # one for all, or a model loaded anew answers otherwise
    }
    if can_fork("cpu" if gpu_memory() is None else "cuda"):
        return server_with(environment).start(PROGRAM, job.model_dump_json(), environment)
    return subprocess.Popen(
        # -P: whatever lies in the folder where somebody started the app is not imported.
        [sys.executable, "-P", "-m", PROGRAM, job.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
        start_new_session=True,  # Ctrl-C is for the app, which then ends its workers
    )


class Inbox:
    """The orders of the parent, read while others are carried out."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._orders: Queue[str] = Queue()
        self._stop = Flag()
        Thread(target=self._read, daemon=True).start()

    def orders(self) -> Iterator[Order]:
        """Yield each order as it comes."""
        while True:
            yield ORDERS.validate_json(self._orders.get())

    def stopped(self) -> bool:
        """Tell whether the order that runs shall end."""
        return self._stop.is_set()

    def _read(self) -> None:
        for line in self._lines:
            if line.strip():
                self._stop.clear()
                self._orders.put(line)
            else:
                self._stop.set()
        os._exit(0)  # nobody listens any more, whatever runs


def run(job: Path, out: TextIO) -> int:
    """Be the process of a model, forked for a job's file."""
    return answer(Job.model_validate_json(job.read_bytes()), out)


def answer(job: Job, out: TextIO) -> int:
    """Load the model and carry out orders for ever; exit code 1 when it can't be loaded."""

    def say(event: Event) -> None:
        print(event.model_dump_json(), file=out, flush=True)

    inbox = Inbox(sys.stdin)

    import torch

    from hubq.errors import UserError
    from hubq.machine.device import keep_freed_memory
    from hubq.machine.shortages import is_out_of_memory
    from serving.decoding import run_request
    from serving.loaded_model import LoadedModel

    keep_freed_memory()
    torch.set_num_threads(job.threads)
    try:
        model = LoadedModel.load(job.folder)
    except UserError as error:
        say(Failed(text=str(error)))
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        say(Failed(text="there is not enough memory left to load it: compare fewer models"))
        return 1
    say(Ready())
    for order in inbox.orders():
        for event in run_request(model, order, job.most_input, job.most_tokens, inbox.stopped):
            say(event)
    return 0


def main() -> int:
    """Be the process of a model, started for a job."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print is no event
    return answer(Job.model_validate_json(sys.argv[1]), out)


if __name__ == "__main__":
    sys.exit(main())
