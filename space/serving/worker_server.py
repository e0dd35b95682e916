"""The process that has imported what models need, and is forked for each of them on a CPU.

torch and transformers take six seconds to import, longer than a small model to load. A fork has
them at once and is as fresh: no thread runs in it, and nothing was loaded. On a GPU each worker
imports them itself, since its driver does not survive a fork.

`python -m serving.worker_server SOCKET` gets the file of a start at a time, until that is closed.
"""

import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from hubq.machine.device import VARIABLE as COMPUTE_DTYPE
from hubq.stages.evaluate.fork_server import Line, WorkerStart
from hubq.stages.evaluate.forking import of_a_module, serve
from hubq.stages.evaluate.processes import Forked

STDERR = 2


class WorkerServer:
    """The app's end of it, which ends with the app."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        own, far = socket.socketpair()
        with far:
            process = subprocess.Popen(
                # -P: whatever lies in the folder where somebody started the app is not imported.
                [sys.executable, "-P", "-m", "serving.worker_server", str(far.fileno())],
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the app
            )
        self._line = Line(own)
        self._turn = Lock()
        self._numbers = count()
        self._folder = TemporaryDirectory(prefix="hubq-space-")
        weakref.finalize(self, _end, own, process)

    def start(self, module: str, job: str, environment: Mapping[str, str]) -> Forked:
        """Let a module's `run` do a job, in JSON; raise OSError where the server has ended."""
        place = Path(self._folder.name) / str(next(self._numbers))
        place.mkdir()
        (place / "job.json").write_text(job, encoding="utf-8")
        start = WorkerStart(module=module, job=place / "job.json", environment=dict(environment))
        start.save(place / "start.json")
        try:
            with self._turn:
                forked = Forked(self._line.fork, place / "start.json", STDERR, asked=True)
        except RuntimeError as error:
            _servers.clear()  # the next one starts anew
            raise OSError(str(error)) from error
        (place / "pid").write_text(str(forked.pid))  # for whoever looks which process has what
        return forked


_servers: dict[str, WorkerServer] = {}
_starting = Lock()


def server_with(environment: Mapping[str, str]) -> WorkerServer:
    """Return the server for the dtype of an environment, started if need be."""
    with _starting:
        dtype = environment[COMPUTE_DTYPE]
        if dtype not in _servers:
            _servers[dtype] = WorkerServer(environment)
        return _servers[dtype]


def _end(own: socket.socket, process: subprocess.Popen[bytes]) -> None:
    own.close()
    process.terminate()  # it may be importing yet
    process.wait()


def main() -> None:
    """Import what models need, then serve."""
    import serving.decoding
    import serving.loaded_model  # noqa: F401

    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent, of_a_module)


if __name__ == "__main__":
    main()
