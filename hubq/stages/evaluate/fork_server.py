"""A process that has imported what measures and quantizes, and is forked for each worker.

torch and transformers take six seconds to import, more than many a measurement. A fork of a process
that has them is as fresh as one that imports them anew: nothing but modules is in its memory, no
thread runs and no number was drawn. Not with a GPU, whose driver does not survive a fork, not
beyond Linux, where libraries may start threads at import, and not to measure memory, since pages
of libraries that a fork has not touched don't count as its own.

Those who must not know hubq are forked from a process that has not imported it: see `forking`.
"""

import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from hubq.records.record import Record

PROGRAM = Path(__file__).with_name("forking.py")


class WorkerStart(Record):
    """What a worker is started with."""

    module: str  # whose `run` gets the file of the job and a stream for messages; or a program
    job: Path
    environment: dict[str, str]


class ForkServer:
    """The parent's end of a fork server, which ends with it; a `plain` one knows no hubq."""

    living: ClassVar["weakref.WeakSet[ForkServer]"] = weakref.WeakSet()

    def __init__(self, environment: Mapping[str, str], *, plain: bool = False) -> None:
        pairs = [socket.socketpair() for _ in range(1 if plain else 2)]
        far = [each for _, each in pairs]
        numbers = [each.fileno() for each in far]
        # -P: a module in the user's folder that is named like a library must not be imported.
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), *map(str, numbers)],
            pass_fds=numbers,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        for each in far:
            each.close()
        sockets = [own for own, _ in pairs]
        self.plain = Line(sockets[-1])
        self._knowing = Line(sockets[0])
        self.close = weakref.finalize(self, _end, sockets, process)
        if not plain:
            self.living.add(self)

    def ready(self) -> None:
        """Wait until it has imported all, and rests until it is asked to fork."""
        self._knowing.ready()

    def fork(self, start: Path, files: Sequence[int]) -> None:
        """Start a worker."""
        self._knowing.fork(start, files)


class Line:
    """What a process is asked through that is forked for each who asks."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own
        self._is_ready = False

    def ready(self) -> None:
        """Wait until it rests until it is asked to fork."""
        if not self._is_ready and not self._socket.recv(1):
            raise RuntimeError("the process that workers are forked from has ended")
        self._is_ready = True

    def fork(self, start: Path, files: Sequence[int]) -> None:
        """Start a worker."""
        self.ready()
        socket.send_fds(self._socket, [str(start).encode()], files)
        if not self._socket.recv(1):
            raise RuntimeError("the process that workers are forked from has ended")


def _end(sockets: Sequence[socket.socket], process: subprocess.Popen[bytes]) -> None:
    for each in sockets:
        each.close()
    process.terminate()  # it may be importing yet
    process.wait()
