"""What a member tells of itself: lines of JSON in a file, which outlives whoever reads them."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from hubq.machine.progress import Advance

EVENTS = "HUBQ_EVENTS"  # names the file, for the command that a member is
SELDOM = 0.5  # seconds between two lines on one task


class Telling:
    """A Progress that appends its tasks to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers = count()

    def say(self, **message: object) -> None:
        """Append one message, in one write."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Tell of a task: its begin, now and then how far it is, its end."""
        number, done, told = next(self.numbers), 0, time.monotonic()
        self.say(task=number, begin=title, total=total)

        def advance(steps: int) -> None:
            nonlocal done, told
            done += steps
            if time.monotonic() - told >= SELDOM:
                told = time.monotonic()
                self.say(task=number, done=done)

        yield advance
        self.say(task=number, end=True)

    def ended(self, code: int, message: str, *, passes: bool) -> None:
        """Tell how the command ended, and whether what stopped it may pass by itself."""
        self.say(ended=code, message=message, passes=passes)


class News:
    """What there is to read of a member's file, from its beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.open: dict[int, tuple[str, int, int]] = {}  # of a task: title, steps done, all steps
        self.message = ""  # how it ended
        self.passes = False

    def read(self) -> None:
        """Take in what was written since the last time; half a line waits."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            whole, _, _ = file.read().rpartition(b"\n")
        if whole:
            self.offset += len(whole) + 1
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "ended" in message:
            self.message, self.passes = message["message"], message["passes"]
        elif "begin" in message:
            self.open[message["task"]] = (message["begin"], 0, message["total"])
        elif "end" in message:
            self.open.pop(message["task"], None)
        elif message["task"] in self.open:
            title, _, total = self.open[message["task"]]
            self.open[message["task"]] = (title, message["done"], total)

    @property
    def doing(self) -> str:
        """The title of the task that began last."""
        return next(reversed(self.open.values()))[0] if self.open else ""

    @property
    def share(self) -> float | None:
        """How much of it is done; None where that isn't known."""
        if not self.open:
            return None
        _, done, total = next(reversed(self.open.values()))
        return min(1.0, done / total) if total else None
