"""The queue of a sweep: who works when, who tries again, and what a stop leaves.

It knows members by what they need and executors by what they offer, and no machine. All that it
decides is saved as it happens, so a sweep that was killed is read from its folder.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hubq.records.run_folder import ADAPTATION, ADAPTED, CHECKPOINT, PLAN, REPORT
from hubq.records.sweep import FINISHED, MemberRecord
from hubq.stages.sweep.executor import Executor, Handle, Work
from hubq.stages.sweep.news import News

STAGES = ("plan", "quantize", "adapt", "evaluate", "publish")
TICK = 0.1  # seconds between two looks
SAVED = 1.0  # seconds between two records of a member that only goes on
PATIENCE = 60.0  # seconds in which members that were asked to end do so
LAST_LINES = 5  # of a log, of a member that didn't say why it ended

Tell = Callable[[str, MemberRecord], None]  # an event's name, and the member as it is then


class Trying(NamedTuple):
    """How often a member is tried that was stopped by what passes by itself."""

    tries: int = 4
    first: float = 10.0  # seconds until the second try; doubled for each further one


@dataclass
class Item:
    """A member in the queue."""

    record: MemberRecord
    work: Work
    forecast: Mapping[str, float]  # seconds by stage, by the plan
    adapts: bool = False
    handle: Handle | None = None
    news: News | None = None
    began: float = 0.0
    stage_began: float = 0.0
    not_before: float = 0.0
    saved: float = field(default=0.0)

    @property
    def stage(self) -> str:
        """The stage that it is in, by what lies in its run folder; at most that of its command."""
        found, last = self._found(), self.work.words[0]
        return last if last in STAGES and found in STAGES[STAGES.index(last) :] else found

    def _found(self) -> str:
        run = Path(self.record.run)
        last = run / ADAPTED / REPORT if self.adapts else run / REPORT
        if not (run / PLAN).is_file():
            return "plan"
        if not (run / CHECKPOINT).is_file():
            return "quantize"
        if self.adapts and not (run / ADAPTED / ADAPTATION).is_file():
            return "adapt"
        return "publish" if last.is_file() else "evaluate"

    def remaining(self, now: float) -> float:
        """Return about how many seconds are left, by the plan."""
        stages = list(self.forecast)
        stage = self.stage if self.stage in stages else stages[0] if self.stage == "plan" else None
        if stage is None:
            return 0.0
        left = sum(self.forecast[each] for each in stages[stages.index(stage) :])
        spent = now - self.stage_began if self.handle is not None else 0.0
        return max(left - min(spent, self.forecast[stage]), 0.0)


class Queue:
    """Members that wait, work and have ended."""

    def __init__(self, items: list[Item], executor: Executor, at_once: int, folder: Path) -> None:
        # The longest first, so that none is left for one place alone at the end.
        self.items = sorted(items, key=lambda each: -sum(each.forecast.values()))
        self.executor, self.at_once, self.folder = executor, at_once, folder

    def run(self, tell: Tell, trying: Trying = Trying()) -> None:  # noqa: B008 - it is frozen
        """Let all members work, until each has ended or failed.

        Ctrl-C and SIGTERM let those at work end as they would by themselves, then raise
        KeyboardInterrupt.
        """
        with _stoppable():
            try:
                while waiting := [each for each in self.items if self._is_open(each)]:
                    self._begin(waiting, tell)
                    for each in self.items:
                        if each.handle is not None:
                            self._look_at(each, tell, trying)
                    time.sleep(TICK)
            except KeyboardInterrupt:
                self._stop(tell)
                raise

    def _is_open(self, item: Item) -> bool:
        return item.record.state not in FINISHED

    def _begin(self, waiting: list[Item], tell: Tell) -> None:
        """Start those that fit beside the ones at work."""
        now = time.monotonic()
        for item in waiting:
            if item.handle is not None or item.not_before > now:
                continue
            if reason := self.executor.why_never(item.work.needs):
                self._change(item, "failed", tell, state="failed", message=reason)
                continue
            at_work = sum(each.handle is not None for each in self.items)
            place = self.executor.place_for(item.work.needs) if at_work < self.at_once else None
            if place is not None:
                self._start(item, place, tell)

    def _start(self, item: Item, place: str, tell: Tell) -> None:
        item.work.events.write_bytes(b"")
        item.news = News(item.work.events)
        item.handle = self.executor.start(item.work, place)
        item.began = item.stage_began = time.monotonic()
        attempts, stage = item.record.attempts + 1, item.stage
        started = {"state": "running", "where": place, "attempts": attempts, "message": ""}
        self._change(item, "started", tell, **started, stage=stage, seconds=0.0)

    def _look_at(self, item: Item, tell: Tell, trying: Trying) -> None:
        """Note how far a member is, and whether it has ended."""
        assert item.handle is not None
        assert item.news is not None
        code = item.handle.poll()  # first: what it told before its end is then there
        item.news.read()
        now = time.monotonic()
        if code is not None:
            self._end(item, code, tell, trying)
        elif (stage := item.stage) != item.record.stage:
            item.stage_began = now
            self._change(item, "stage", tell, stage=stage, **self._going(item, now))
        elif now - item.saved >= SAVED:
            self._change(item, "progress", tell, **self._going(item, now))

    def _going(self, item: Item, now: float) -> dict[str, Any]:
        """Return what changes while a member works."""
        assert item.news is not None
        found = {"doing": item.news.doing, "share": item.news.share}
        return {**found, "seconds": now - item.began, "remaining": item.remaining(now)}

    def _end(self, item: Item, code: int, tell: Tell, trying: Trying) -> None:
        """Take a member's end: it is done, tries again after a while, or has failed."""
        assert item.news is not None
        item.handle = None
        now = time.monotonic()
        over = {"doing": "", "share": None, "seconds": now - item.began, "remaining": None}
        if code == 0:
            self._change(item, "done", tell, state="done", **over)
            return
        message = item.news.message or _last_words(item.work.log, code)
        if item.news.passes and item.record.attempts < trying.tries:
            item.not_before = now + trying.first * 2 ** (item.record.attempts - 1)
            again = f"tries again in {item.not_before - now:.0f} s: {message}"
            self._change(item, "retrying", tell, state="retrying", message=again, **over)
        else:
            self._change(item, "failed", tell, state="failed", message=message, **over)

    def _stop(self, tell: Tell) -> None:
        """Ask all members to end, wait for them, and end those that don't."""
        working = [each for each in self.items if each.handle is not None]
        for item in working:
            assert item.handle is not None
            item.handle.stop()
        until = time.monotonic() + PATIENCE
        try:
            while any(_works(each) for each in working) and time.monotonic() < until:
                time.sleep(TICK)
        finally:  # a second Ctrl-C doesn't wait
            for item in working:
                if _works(item):
                    assert item.handle is not None
                    item.handle.kill()
                item.handle = None
                self._change(item, "stopped", tell, state="stopped", doing="", share=None)

    def _change(self, item: Item, event: str, tell: Tell, **changes: object) -> None:
        """Save a member as it is now, and tell of it."""
        item.record = item.record.model_copy(update=changes)
        item.record.save(self.folder / f"{item.record.name}.json")
        item.saved = time.monotonic()
        tell(event, item.record)


def _works(item: Item) -> bool:
    return item.handle is not None and item.handle.poll() is None


def _last_words(log: Path, code: int) -> str:
    """Say how a member ended that didn't."""
    how = (
        f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    )
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log.is_file() else []
    return "\n".join([f"it {how}", *lines])


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
