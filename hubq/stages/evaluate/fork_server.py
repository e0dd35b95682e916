"""A process that has imported what measures and quantizes, and is forked for each worker.

torch and transformers take six seconds to import, more than many a measurement. A fork of a process
that has them is as fresh as one that imports them anew: nothing but modules is in its memory, no
thread runs and no number was drawn. Not with a GPU, whose driver does not survive a fork, not
beyond Linux, where libraries may start threads at import, and not to measure memory, since pages
of libraries that a fork has not touched don't count as its own.

`python -m hubq.stages.evaluate.fork_server SOCKET` gets the file of a `WorkerStart` at a time on
its socket, with three files: for the worker's messages, for all else that it prints, and the one
that tells its pid and its exit code. It ends when the socket is closed.
"""

import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import ClassVar, TextIO

from hubq.records.record import Record

PATH_BYTES = 4096
FILES = 3


class WorkerStart(Record):
    """What a worker is started with."""

    module: str  # whose `run` gets the file of the job and a stream for messages
    job: Path
    environment: dict[str, str]


class ForkServer:
    """The parent's end of a fork server, which ends with it."""

    living: ClassVar["weakref.WeakSet[ForkServer]"] = weakref.WeakSet()

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.socket, far = socket.socketpair()
        # -P: a module in the user's folder that is named like a library must not be imported.
        command = [
            sys.executable,
            "-P",
            "-m",
            "hubq.stages.evaluate.fork_server",
            str(far.fileno()),
        ]
        with far:
            process = subprocess.Popen(
                command, pass_fds=[far.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        self.close = weakref.finalize(self, _end, self.socket, process)
        self._is_ready = False
        self.living.add(self)

    def ready(self) -> None:
        """Wait until it has imported all, and rests until it is asked to fork."""
        if not self._is_ready and not self.socket.recv(1):
            raise RuntimeError("the process that workers are forked from has ended")
        self._is_ready = True

    def fork(self, start: Path, files: Sequence[int]) -> None:
        """Start a worker."""
        self.ready()
        socket.send_fds(self.socket, [str(start).encode()], files)
        if not self.socket.recv(1):
            raise RuntimeError("the process that workers are forked from has ended")


def _end(own: socket.socket, process: subprocess.Popen[bytes]) -> None:
    own.close()
    process.terminate()  # it may be importing yet
    process.wait()


def serve(parent: socket.socket) -> None:
    """Fork a worker for each request, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which kills workers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for workers
    parent.send(b".")
    while request := _request(parent):
        start, files = request
        if os.fork() == 0:
            parent.close()
            os._exit(_wait_for(start, files))
        for file in files:
            os.close(file)
        parent.send(b".")


def _request(parent: socket.socket) -> tuple[Path, list[int]] | None:
    """Read one request; None where the parent is gone."""
    path, files, _, _ = socket.recv_fds(parent, PATH_BYTES, FILES)
    return (Path(os.fsdecode(path)), files) if path else None


def _wait_for(start: Path, files: Sequence[int]) -> int:
    """Fork the worker, tell its pid, then its exit code; let nobody else get its pid before."""
    messages, log, status = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker = os.fork()
    if worker == 0:
        os.close(status)
        sys.exit(_work(WorkerStart.load(start), messages, log))  # or a traceback, as of any process
    for file in (messages, log):
        os.close(file)
    # A parent that is gone wants to know nothing; the worker ends when it has something to say.
    with socket.socket(fileno=status) as parent, suppress(BrokenPipeError, ConnectionResetError):
        parent.send(f"{worker}\n".encode())
        ended = os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        parent.send(f"{code}\n".encode())
        parent.recv(1)  # until it is closed
    os.waitpid(worker, 0)
    return 0


def _work(start: WorkerStart, messages: int, log: int) -> int:
    """Be the worker; return its exit code."""
    os.environ.clear()
    os.environ.update(start.environment)
    work: Callable[[Path, TextIO], int] = import_module(start.module).run
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    os.close(log)
    with os.fdopen(messages, "w") as out:
        return work(start.job, out)


def main() -> None:
    """Import what workers need, then serve."""
    from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: F401

    import hubq.stages.evaluate.worker
    import hubq.stages.quantize.quantization  # noqa: F401

    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent)


if __name__ == "__main__":
    main()
