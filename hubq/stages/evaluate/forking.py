"""The program that imports what workers need, and is forked for each: first without hubq.

It runs by its path and imports transformers alone. A fork of it at that moment serves those who
must be as a downloader's process is; hubq, which teaches transformers its format as soon as both
are imported, comes after that, for those who measure and quantize.

`python -P forking.py [SOCKET] PLAIN_SOCKET` gets the file of a start at a time on each socket, with
three files: for the worker's messages, for all else that it prints, and the one that tells its pid
and its exit code; a fourth is its standard input. It ends when the sockets are closed.
"""

import atexit
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import Any, TextIO

PATH_BYTES = 4096
FILES = 4

Work = Callable[[Path, TextIO], int]  # gets the file of the job and a stream for messages


def serve(parent: socket.socket, find: Callable[[str], Work]) -> None:
    """Fork a worker for each request, until the parent is gone; `find` has what it does by name."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which kills workers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for workers
    with suppress(BrokenPipeError):  # the parent is gone already
        parent.send(b".")
    while request := _request(parent):
        start, files = request
        if os.fork() == 0:
            parent.close()
            os._exit(_wait_for(start, files, find))
        for file in files:
            os.close(file)
        parent.send(b".")


def _request(parent: socket.socket) -> tuple[Path, list[int]] | None:
    """Read one request; None where the parent is gone."""
    try:
        path, files, _, _ = socket.recv_fds(parent, PATH_BYTES, FILES)
    except ConnectionResetError:  # it has not even read that all is imported
        return None
    return (Path(os.fsdecode(path)), files) if path else None


def _wait_for(start: Path, files: Sequence[int], find: Callable[[str], Work]) -> int:
    """Fork the worker, tell its pid, then its exit code; let nobody else get its pid before."""
    messages, log, status, *stdin = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker = os.fork()
    if worker == 0:
        os.close(status)
        for each in stdin:
            os.dup2(each, sys.stdin.fileno())
            os.close(each)
        _end(_work(json.loads(start.read_bytes()), find, messages, log))  # or a traceback
    for file in (messages, log, *stdin):
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


def _work(start: dict[str, Any], find: Callable[[str], Work], messages: int, log: int) -> int:
    """Be the worker; return its exit code."""
    os.environ.clear()
    os.environ.update(start["environment"])
    work = find(start["module"])
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    os.close(log)
    with os.fdopen(messages, "w") as out:
        return work(Path(start["job"]), out)


def _end(code: int) -> None:
    """End a fork as multiprocessing does: taking its modules apart copies the pages of each.

    That took 1.5 s of a core, more than many a worker's work.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def of_a_module(name: str) -> Work:
    """Return what a module of hubq does."""
    work: Work = import_module(name).run
    return work


def of_a_program(path: str) -> Work:
    """Return what a program does that imports nothing of hubq."""
    work: Work = run_path(path)["run"]
    return work


def main() -> None:
    """Import what all need, fork what knows no hubq, import what workers need, and serve."""
    from transformers import (  # noqa: F401
        AutoConfig,
        AutoModelForCausalLM,
        AutoTokenizer,
        PreTrainedModel,
        PreTrainedTokenizerFast,
    )

    *known, plain = (socket.socket(fileno=int(each)) for each in sys.argv[1:])
    if not known or os.fork() == 0:
        for each in known:
            each.close()
        with plain:
            serve(plain, of_a_program)
        return
    plain.close()
    import hubq.stages.evaluate.worker
    import hubq.stages.quantize.quantization  # noqa: F401

    with known[0] as parent:
        serve(parent, of_a_module)


if __name__ == "__main__":
    main()
