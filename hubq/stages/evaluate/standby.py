"""Processes that have imported what measures and wait for a job: fresh ones, to be timed.

What is timed and weighed needs a process of its own that was not forked, and its imports take
seconds. Those of both sides are imported at once, before the first side is timed.

`python -m hubq.stages.evaluate.standby` writes a line once it has imported all, reads a
`WorkerOrder` from its standard input, and is that worker.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from hubq.records.record import Record
from hubq.stages.evaluate.fork_server import WorkerStart

READY = "ready\n"


class WorkerOrder(Record):
    """What a process that stands by is told."""

    module: str  # whose `run` gets the file of the job and a stream for messages
    job: Path
    log: Path  # for all else that it prints


class Standby:
    """The parent's end of such a process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it is taken, or ended
        # -P: a module in the user's folder that is named like a library must not be imported.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hubq.stages.evaluate.standby"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=self.environment,
            text=True,
        )

    def ready(self) -> None:
        """Wait until it has imported all."""
        assert self.process.stdout is not None
        if self.process.stdout.readline() != READY:
            self.log.seek(0)
            said = self.log.read().decode(errors="replace")
            raise RuntimeError(f"a process that was to measure has ended:\n{said}")

    def take(self, start: WorkerStart, log: Path) -> "subprocess.Popen[str]":
        """Make it a worker."""
        assert self.process.stdin is not None
        order = WorkerOrder(module=start.module, job=start.job, log=log)
        self.process.stdin.write(order.model_dump_json() + "\n")
        self.process.stdin.close()
        self.log.close()
        return self.process

    def end(self) -> None:
        """End it without work."""
        self.process.kill()
        with self.process:  # waits, and closes the pipes
            self.log.close()


_waiting: list[Standby] = []


@contextmanager
def standing_by(environment: Mapping[str, str], number: int) -> Iterator[None]:
    """Have so many processes for workers with this environment; those that nobody took end."""
    started = [Standby(environment) for _ in range(number)]
    _waiting.extend(started)
    try:
        for each in started:
            each.ready()
        yield
    finally:
        for each in started:
            if each in _waiting:
                _waiting.remove(each)
                each.end()


def taken(start: WorkerStart, log: Path) -> "subprocess.Popen[str] | None":
    """Return a worker that stood by in just this environment; None where none does."""
    for each in _waiting:
        if each.environment == start.environment:
            _waiting.remove(each)
            return each.take(start, log)
    return None


def main() -> int:
    """Import what workers need, then be one."""
    from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: F401

    from hubq.stages.evaluate.worker import be_a_process

    sys.stdout.write(READY)
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        return 0
    order = WorkerOrder.model_validate_json(line)
    with order.log.open("wb") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    return be_a_process(import_module(order.module).run, order.job)


if __name__ == "__main__":
    sys.exit(main())
