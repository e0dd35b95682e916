"""Where the time of a command went, in words."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hubq.cli.bars import duration
from hubq.machine.progress import Advance, Progress

SHOWN = 6  # parts of a stage
LEAST = 0.5  # seconds; what took less is not told


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
    lines = [f"took  {duration(sum(stages.values()))} (parts in seconds, some side by side)"]
    for name, seconds in told.items():
        longest = _longest(parts.get(name, {}))
        lines.append(f"      {name:{width}}  {duration(seconds):>6}  {longest}".rstrip())
    return lines


def _longest(parts: Mapping[str, float]) -> str:
    """Name the longest parts with their seconds."""
    found = sorted(parts.items(), key=lambda part: -part[1])[:SHOWN]
    return ", ".join(f"{name} {seconds:.0f}" for name, seconds in found if seconds >= LEAST)
