"""The processes that workers are: spawned ones, and forks of one that has imported all."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from select import select
from threading import Lock
from typing import IO, Protocol

from hubq.stages.evaluate.fork_server import ForkServer, WorkerStart
from hubq.stages.evaluate.standby import taken

# What libraries read when they are imported, so that it must stand before; a worker gets the rest.
AT_IMPORT = (
    *("HF_", "HUGGING", "TORCH", "TRANSFORMERS_", "XDG_", "HOME"),
    *("OMP_", "MKL_", "NUMBA_", "LD_", "PYTHON"),
)


def can_fork(device: str) -> bool:
    """Tell whether workers on a device are forked: not with a GPU, not beyond Linux."""
    return device == "cpu" and sys.platform == "linux"


class Worker(Protocol):
    """A process at work: what it says, and its end."""

    stdout: IO[str] | None

    def wait(self) -> int:
        """Return the exit code, negative for a signal, once the process has ended."""
        ...

    def kill(self) -> None:
        """End it, if it hasn't ended."""
        ...


@contextmanager
def spawned(start: WorkerStart, log: Path) -> Iterator[Worker]:
    """Start a worker that imports all it needs, once nothing else imports: it may be timed.

    One that stands by has done so.
    """
    if standby := taken(start, log):
        with standby:
            yield standby
        return
    for fork_server in ForkServer.living:
        fork_server.ready()
    with begun(["-m", start.module], start, log) as worker:
        yield worker


@contextmanager
def begun(program: Sequence[str], start: WorkerStart, log: Path) -> Iterator[Worker]:
    """Start Python on a program, by its path or as a module, which gets the job's file."""
    # -P: a module in the user's folder that is named like a library must not be imported.
    command = [sys.executable, "-P", *program, str(start.job)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=start.environment, text=True
        ) as worker,
    ):
        yield worker


@contextmanager
def forked(start: WorkerStart, log: Path) -> Iterator[Worker]:
    """Fork a worker from a process that has imported all."""
    with forked_by(fork_server_for(start.environment).fork, start, log) as worker:
        yield worker


@contextmanager
def forked_by(
    fork: Callable[[Path, Sequence[int]], None], start: WorkerStart, log: Path
) -> Iterator[Worker]:
    """Let a process fork a worker; its start lies beside its job."""
    with log.open("wb") as errors:
        worker = Forked(fork, start.job.with_name("start.json"), errors.fileno())
    try:
        yield worker
    finally:
        worker.close()


class Forked:
    """A worker that was forked; its pid is its own until it is closed."""

    def __init__(
        self,
        fork: Callable[[Path, Sequence[int]], None],
        start: Path,
        log: int,
        *,
        asked: bool = False,
    ) -> None:
        """Let `fork` do it; `log` gets what isn't a message, and who is `asked` has an input."""
        incoming, messages = os.pipe()
        stdin, orders = os.pipe() if asked else (None, None)
        own, status = socket.socketpair()
        far = [messages, log, status.fileno(), *([] if stdin is None else [stdin])]
        self.stdout: IO[str] | None = os.fdopen(incoming, encoding="utf-8")
        self.stdin: IO[str] | None = (
            None if orders is None else os.fdopen(orders, "w", encoding="utf-8")
        )
        try:
            fork(start, far)
        finally:
            os.close(messages)
            if stdin is not None:
                os.close(stdin)
            status.close()
        self._socket, self._told = own, own.makefile("r")
        self._ending = Lock()
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative for a signal, once the process has ended."""
        if self.returncode is None and not select([self._socket], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        with self._ending:  # another thread may have read it
            if self.returncode is None:
                self.returncode = int(self._told.readline())
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def kill(self) -> None:
        """End it, if it hasn't ended."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wait for it, and forget it."""
        self.wait()
        for each in (self._told, self._socket, self.stdin, self.stdout):
            if each is not None:
                each.close()


def fork_server_for(environment: Mapping[str, str]) -> ForkServer:
    """Return what workers with such an environment are forked from, started if need be."""
    kept = {key: each for key, each in environment.items() if key.startswith(AT_IMPORT)}
    return _fork_server(tuple(sorted(kept.items())))


def plain_fork_server(environment: Mapping[str, str]) -> ForkServer:
    """Return what has imported transformers and not hubq: what workers are forked from has it."""
    living = next(iter(ForkServer.living), None)
    return living or ForkServer(environment, plain=True)


@lru_cache(maxsize=1)
def _fork_server(environment: tuple[tuple[str, str], ...]) -> ForkServer:
    """Start what workers are forked from; one at a time, ended by the next or with this process."""
    return ForkServer({**os.environ, **dict(environment)})
