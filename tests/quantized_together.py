"""Processes that quantize together, as torchrun would start them, but forked: libraries come once.

`python quantized_together.py JOBS.json` does one job after another. Each is how many processes
quantize which run folders, or run hubq with which words, and which of them dies when the second
block begins. It prints, for each job, the processes' exit codes and what they said.
"""

import json
import os
import signal
import socket
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TextIO

import click
import torch  # noqa: F401 - before the fork

from hubq.cli import cli
from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.plan import Plan
from hubq.records.run_folder import PLAN
from hubq.stages.quantize import quantization
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.quantize import follow, quantize
from hubq.stages.quantize.ranks import ALONE, Ranks, joined


def main(file: Path) -> None:
    """Do the jobs of a file."""
    print(json.dumps([_done(job) for job in json.loads(file.read_text())]))


def _done(job: dict[str, Any]) -> dict[str, list[Any]]:
    """Run the processes of a job; return what became of each."""
    if job["processes"] == 1:  # itself: what that imports and compiles comes to the others
        for run in job["runs"]:
            _quantize(run, ALONE)
        return {"codes": [0], "said": [""]}
    with socket.socket() as free, ExitStack() as open_files:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        said = [open_files.enter_context(TemporaryFile("w+")) for _ in range(job["processes"])]
        children = [_forked(job, rank, port, file) for rank, file in enumerate(said)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        for file in said:
            file.seek(0)
        return {"codes": codes, "said": [file.read() for file in said]}


def _forked(job: dict[str, Any], rank: int, port: int, said: TextIO) -> int:
    """Start a process; return its id."""
    if child := os.fork():
        return child
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    here, size = str(rank), str(job["processes"])
    os.environ |= {"RANK": here, "LOCAL_RANK": here, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": str(port)}
    os.environ["HUBQ_KEEP_EVERY"] = "0"
    if job.get("dies") == rank:
        setattr(quantization, Block.__name__, _Last)  # only in this process
    try:
        _work(job)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    except UserError as error:
        click.echo(str(error), err=True)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _work(job: dict[str, Any]) -> None:
    if "words" in job:
        cli.main(job["words"])
    with joined() as ranks:
        if ranks.first:
            for run in job["runs"]:
                _quantize(run, ranks)
            ranks.of_first(lambda: None)
        else:
            follow(ranks)
    sys.exit(0)


def _quantize(run: str, ranks: Ranks) -> None:
    plan = Plan.load(Path(run) / PLAN)
    quantize(plan, Path(run), Client("http://127.0.0.1:9"), ranks=ranks)


class _Last(Block):
    """Blocks of which the second is the end of the process."""

    def __init__(self, *given: Any) -> None:
        if given[1] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().__init__(*given)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
