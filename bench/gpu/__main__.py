"""Check hubq on a GPU, or smaller on a CPU: PYTHONPATH=bench python -m gpu [CHECK ...]

All checks together have nine minutes. One that finds no time any more is reported as not run, and
so is what this machine can't do; the exit code is 1 if anything failed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from threading import Timer

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpu.checks import CHECKS
from gpu.findings import Finding, Row

BUDGET = 540.0  # seconds of all checks
STARTED = 15.0  # seconds that a check needs to find anything out
FIXED = {
    "HF_HUB_OFFLINE": "1",
    "HUBQ_COMPUTE_DTYPE": "bfloat16",  # a GPU's, on any CPU beside it
    "PYTHONUNBUFFERED": "1",
}


def main() -> int:
    """Run the checks of the command line, or all."""
    names = sys.argv[1:] or list(CHECKS)
    if unknown := sorted({*names} - {*CHECKS}):
        print(f"no check is called {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        return 2
    with tempfile.TemporaryDirectory(prefix="hubq-gpu-") as folder:
        commands = {name: [sys.executable, "-m", "gpu.checks", name, folder] for name in names}
        environment = {**os.environ, **FIXED, "HUBQ_CACHE": f"{folder}/cache"}
        rows = list(run(commands, BUDGET, environment))
    return told(rows)


def run(
    commands: Mapping[str, Sequence[str]], budget: float, environment: dict[str, str]
) -> Iterator[Row]:
    """Carry out commands in turn, and yield what each found, within so many seconds."""
    end = time.monotonic() + budget
    for name, command in commands.items():
        left = end - time.monotonic()
        if left < STARTED:
            yield Row(name, Finding("", found="the time was over", ok=None), 0.0)
        else:
            yield from rows_of(name, command, left, environment)


def rows_of(
    name: str, command: Sequence[str], seconds: float, environment: dict[str, str]
) -> Iterator[Row]:
    """Yield each finding that a command prints, and a failed one if it ends in another way."""
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        timer = Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            last = began
            for line in process.stdout:
                if finding := Finding.read(line):
                    now = time.monotonic()
                    print(f"  {name} {finding.name}: {finding.verdict}", file=sys.stderr)
                    yield Row(name, finding, now - last)
                    last = now
            code = process.wait()
        finally:
            timer.cancel()
    if time.monotonic() - began >= seconds:
        yield Row(name, Finding("the rest", found="the time was over", ok=None), 0.0)
    elif code:
        yield Row(name, Finding("", "an end", f"exit code {code}, see above", ok=False), 0.0)


def told(rows: list[Row]) -> int:
    """Print the table, and what was not run or failed; return the exit code."""
    from gpu.models import machine  # and with it torch

    table = Table("check", "of", "expected", "found", "seconds", "", title=machine())
    for row in rows:
        each = row.finding
        cells = (row.check, each.name, each.expected, each.found, f"{row.seconds:.1f}")
        table.add_row(*map(escape, cells), each.verdict)
    Console(width=170).print(table)
    for verdict in ("not run", "FAILED"):
        chosen = [f"{row.check} {row.finding.name}".strip() for row in rows
                  if row.finding.verdict == verdict]  # fmt: skip
        if chosen:
            print(f"{len(chosen)} {verdict.upper()}: {', '.join(chosen)}")
    return int(any(row.finding.ok is False for row in rows) or not rows)


if __name__ == "__main__":
    sys.exit(main())
