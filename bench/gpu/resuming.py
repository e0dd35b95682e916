"""A killed run goes on to the bytes of one that was not: python -m gpu.resuming RUN STEPS

That command quantizes the plan in a run folder and kills itself after so many steps, four of which
are a block of a method that isn't trained.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu.findings import Finding, in_turn
from gpu.models import NOWHERE, Setting, Subject
from hubq.machine.progress import Advance
from hubq.records.plan import Plan
from hubq.records.run_folder import PLAN
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.resuming import VARIABLE, where_it_goes_on

KILLED = ["gptq", "billm", "db_llm"]  # a column loop, sums in groups, training
SMALL = KILLED[:1]
EVERY_BLOCK = {VARIABLE: "0"}


class Deadly:
    """A Progress that kills its process after so many steps of quantizing."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Count the steps of the walk."""
        yield self.advance if title.startswith("Quantizing") else lambda steps: None

    def advance(self, steps: int) -> None:
        """Take some steps; the last allowed one is deadly."""
        self.left -= steps
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def resuming(setting: Setting) -> Iterator[Finding]:
    """Yield for some methods whether a run that was killed ends with the files of a whole one."""
    subject = setting.real()

    def one(name: str) -> Iterator[Finding]:
        yield resumed(name, subject, setting.folder / "resuming")

    yield from in_turn(SMALL if setting.small else KILLED, one)


def resumed(name: str, subject: Subject, folder: Path) -> Finding:
    """Quantize twice, once with a kill in the second block."""
    whole = subject.quantized(name, folder / f"{name}-whole")
    run = folder / f"{name}-killed"
    planned = subject.planned(name, run)
    planned.save(run / PLAN)
    steps = 4 + subject.recipe(name).method.tuning_epochs + 2
    command = [sys.executable, "-m", "gpu.resuming", str(run), str(steps)]
    code = subprocess.run(command, env=os.environ | EVERY_BLOCK, check=False).returncode
    went_on = where_it_goes_on(planned, run)
    killed = quantize(planned, run, NOWHERE)
    alike = killed.files == whole.files
    return Finding(
        name,
        "killed, goes on after a block, equal bytes",
        f"exit code {code}, went on {went_on}, {'equal' if alike else 'NOT equal'}",
        ok=code == -signal.SIGKILL and went_on is not None and alike,
    )


if __name__ == "__main__":
    place = Path(sys.argv[1])
    quantize(Plan.load(place / PLAN), place, NOWHERE, Deadly(int(sys.argv[2])))
