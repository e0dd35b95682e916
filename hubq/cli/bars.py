"""Progress for people: bars with the time that remains, lines without a terminal; and the sum."""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.machine.progress import Advance, Progress
from hubq.stages.sweep.news import EVENTS, Telling

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

MILESTONES = 4  # parts of a task after which a line is due, where no terminal is
SHORT = 2.0  # seconds; shorter tasks get no lines in between
SHOWN = 6  # parts of a stage
LEAST = 0.5  # seconds; what took less is not told


def progress() -> Progress:
    """Return the progress that suits standard error, or that a sweep reads of its member."""
    from rich.console import Console

    if path := os.environ.get(EVENTS):
        return Telling(Path(path))
    return Bars() if Console(stderr=True).is_terminal else Lines()


class Bars:
    """One bar for each open task, with its share, elapsed and remaining time."""

    def __init__(self) -> None:
        self.display: RichProgress | None = None
        self.open = 0

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Show a bar until the task ends."""
        display = self._shown()
        self.open += 1
        task = display.add_task(title, total=total)
        try:
            yield lambda steps: display.advance(task, steps)
        finally:
            self.open -= 1
            display.stop_task(task)
            if self.open == 0:
                display.stop()
                self.display = None

    def _shown(self) -> "RichProgress":
        from rich import progress
        from rich.console import Console

        if self.display is None:
            self.display = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TimeElapsedColumn(),
                progress.TextColumn("ETA"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.display.start()
        return self.display


class Lines:
    """A line at the start, at each quarter and at the end: for logs."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Tell how a task goes on."""
        began = time.monotonic()
        done = told = 0

        def advance(steps: int) -> None:
            nonlocal done, told
            done += steps
            quarter = MILESTONES * done // total if total else 0
            spent = time.monotonic() - began
            if told < quarter < MILESTONES and spent > SHORT:
                told = quarter
                left = spent * (total - done) / done
                click.echo(f"{title}: {100 * done // total} %, ETA {duration(left)}", err=True)

        click.echo(f"{title} ...", err=True)
        yield advance
        click.echo(f"{title}: done in {duration(time.monotonic() - began)}", err=True)


def duration(seconds: float) -> str:
    """Spell a time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class Timed:
    """A Progress that also keeps how long each task took."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Open a task, and take the time until it ends."""
        began = time.monotonic()
        with self.progress.task(title, total) as advance:
            yield advance
        self.seconds[title] += time.monotonic() - began


def spent(stages: Mapping[str, float], parts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say how many seconds each stage took, and its longest parts; nothing where none ran."""
    if not parts:
        return []
    told = {name: each for name, each in stages.items() if each >= LEAST}
    width = max(map(len, stages))
    lines = [f"took  {duration(sum(stages.values()))} (parts in seconds; some ran in parallel)"]
    for name, seconds in told.items():
        longest = _longest(parts.get(name, {}))
        lines.append(f"      {name:{width}}  {duration(seconds):>6}  {longest}".rstrip())
    return lines


def _longest(parts: Mapping[str, float]) -> str:
    """Name the longest parts with their seconds."""
    found = sorted(parts.items(), key=lambda part: -part[1])[:SHOWN]
    return ", ".join(f"{name} {seconds:.0f}" for name, seconds in found if seconds >= LEAST)
