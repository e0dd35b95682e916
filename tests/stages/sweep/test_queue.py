"""The queue of a sweep, with real processes that do little: who works when, and how they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hubq.records.sweep import MemberRecord
from hubq.stages.sweep.executor import Needs, Work
from hubq.stages.sweep.local import Capacity, LocalProcesses
from hubq.stages.sweep.queue import Item, Queue, Trying

ROOT = Path(__file__).parents[3]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
AT_ONCE = Trying(tries=3, first=0.0)
SMALL = Needs(memory=1, beside=1, device_memory=None)


class Told:
    """What happened, in its order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.places: dict[str, str] = {}

    def __call__(self, event: str, member: MemberRecord) -> None:
        if event == "started":
            self.places[member.name] = member.where
        if event in ("started", "done", "failed", "retrying", "stopped"):
            self.events.append(f"{event} {member.name}")


@pytest.fixture
def item(tmp_path: Path) -> Callable[..., Item]:
    """Return a function that makes a member of a queue; it works in a folder of its own."""

    def make(name: str, how: str = "well", needs: Needs = SMALL, seconds: float = 1.0) -> Item:
        folder = tmp_path / name
        folder.mkdir()
        record = MemberRecord(name=name, recipe="", run=str(folder / "run"), repo=f"acme/{name}")
        events, log = folder / "events", folder / "log"
        work = Work(name, (how, str(folder)), events, log, needs)
        return Item(record, work, {"quantize": seconds})

    return make


def queue(
    items: list[Item],
    folder: Path,
    at_once: int = 2,
    memory: int = 10,
    gpus: Mapping[str, int] | None = None,
) -> Queue:
    environment = {**os.environ, "PYTHONPATH": PATHS}
    capacity = Capacity(memory, gpus or {})
    executor = LocalProcesses(capacity, at_once, environment, "sweeping_member")
    return Queue(items, executor, at_once, folder)


def run(items: list[Item], folder: Path, **options: object) -> Told:
    told = Told()
    queue(items, folder, **options).run(told, AT_ONCE)  # type: ignore[arg-type]
    return told


def test_what_fits_works_side_by_side_the_longest_first(
    item: Callable[..., Item], tmp_path: Path
) -> None:
    items = [item("short", seconds=1), item("long", seconds=9), item("last", seconds=0.5)]

    told = run(items, tmp_path)

    assert told.events[:2] == ["started long", "started short"]
    assert [each.record.state for each in items] == ["done"] * 3
    assert MemberRecord.load(tmp_path / "last.json").state == "done"


def test_nobody_starts_who_does_not_fit_beside_those_at_work(
    item: Callable[..., Item], tmp_path: Path
) -> None:
    wide = Needs(memory=4, beside=6, device_memory=None)
    items = [item("first", needs=wide, seconds=2), item("second", needs=wide)]

    told = run(items, tmp_path)

    assert told.events == ["started first", "done first", "started second", "done second"]


def test_what_no_place_has_room_for_fails_and_says_what_it_needs(
    item: Callable[..., Item], tmp_path: Path
) -> None:
    items = [item("huge", needs=Needs(11_000_000, 11_000_000, None)), item("small")]

    told = run(items, tmp_path)

    assert told.events[0] == "failed huge"
    assert "needs 11.0 MB of memory, and 0.0 MB are free" in items[0].record.message
    assert items[1].record.state == "done"


def test_each_has_a_gpu_of_its_own(item: Callable[..., Item], tmp_path: Path) -> None:
    on_gpu = Needs(memory=1, beside=1, device_memory=5)
    items = [item(name, needs=on_gpu) for name in ("a", "b", "c")]

    told = run(items, tmp_path, at_once=3, gpus={"0": 8, "2": 3, "3": 5})

    assert told.events[:2] == ["started a", "started b"]
    assert told.events[2].startswith("done")
    assert {told.places["a"], told.places["b"]} == {"0", "3"}


def test_a_failure_stops_nobody_else_and_is_not_tried_again(
    item: Callable[..., Item], tmp_path: Path
) -> None:
    items = [item("wrong", "fails", seconds=2), item("right")]

    run(items, tmp_path, at_once=1)

    assert items[0].record.state == "failed"
    assert items[0].record.message == "the recipe is wrong"
    assert items[0].record.attempts == 1
    assert items[1].record.state == "done"


def test_what_passes_by_itself_is_tried_again_but_not_for_ever(
    item: Callable[..., Item], tmp_path: Path
) -> None:
    items = [item("busy", "busy")]

    told = run(items, tmp_path)

    assert told.events == [
        *("started busy", "retrying busy", "started busy", "retrying busy"),
        *("started busy", "done busy"),
    ]
    (tmp_path / "again").mkdir()
    never = item("never", "busy")
    Queue([never], queue([], tmp_path).executor, 1, tmp_path / "again").run(
        Told(), Trying(tries=2, first=0.0)
    )
    assert never.record.state == "failed"
    assert never.record.message == "the Hub is busy"


def test_a_member_that_says_nothing_fails_with_the_end_of_its_log(
    item: Callable[..., Item], tmp_path: Path
) -> None:
    broken = item("broken")
    broken.work = broken.work._replace(words=("well", str(tmp_path / "nowhere")))

    run([broken], tmp_path)

    assert broken.record.message.startswith("it ended with exit code 1\n")
    assert "No such file or directory" in broken.record.message


SWEEPING = """\
import sys
from pathlib import Path
from hubq.records.sweep import MemberRecord
from hubq.stages.sweep.executor import Needs, Work
from hubq.stages.sweep.local import Capacity, LocalProcesses
from hubq.stages.sweep.queue import Item, Queue
import os

folder = Path(sys.argv[1])
record = MemberRecord(name="long", recipe="", run=str(folder / "run"), repo="acme/long")
work = Work("long", ("long", str(folder)), folder / "events", folder / "log", Needs(1, 1, None))
executor = LocalProcesses(Capacity(9, {}), 1, os.environ, "sweeping_member")
Queue([Item(record, work, {"quantize": 1.0})], executor, 1, folder).run(lambda *_: None)
"""


@pytest.fixture
def sweeping(tmp_path: Path) -> "subprocess.Popen[bytes]":
    """Start a sweep of one member that works for a long time; return it once that is at work."""
    environment = {**os.environ, "PYTHONPATH": PATHS}
    process = subprocess.Popen([sys.executable, "-c", SWEEPING, str(tmp_path)], env=environment)
    appears(tmp_path / "began")
    return process


def appears(path: Path) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not appear"
        time.sleep(0.05)


def test_a_member_ends_with_a_sweep_that_is_killed(
    sweeping: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """Two real processes: two seconds."""
    sweeping.kill()
    sweeping.wait()

    appears(tmp_path / "interrupted")
    assert MemberRecord.load(tmp_path / "long.json").state == "running"


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_told_to_end_lets_its_members_end_first(
    sweeping: "subprocess.Popen[bytes]", tmp_path: Path, signal_: signal.Signals
) -> None:
    """Two real processes: two seconds."""
    sweeping.send_signal(signal_)

    assert sweeping.wait(60) != 0
    assert (tmp_path / "interrupted").exists()
    assert MemberRecord.load(tmp_path / "long.json").state == "stopped"
