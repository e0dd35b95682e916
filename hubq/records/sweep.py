"""What a sweep and each of its members are doing, saved so that another terminal can look."""

from pathlib import Path
from typing import Literal

from hubq.records.record import Record

# stopped: by Ctrl-C or with the sweep; beaten: measured, and another one is clearly better.
State = Literal["waiting", "running", "retrying", "stopped", "failed", "beaten", "done"]
Stage = Literal["quantize", "evaluate", "publish"]
FINISHED: tuple[State, ...] = ("failed", "beaten", "done")

SWEEPS = Path("sweeps")
SWEEP = "sweep.json"
RECIPES, MEMBERS, EVENTS, LOGS = "recipes", "members", "events", "logs"  # folders, a file a member


class SweepRecord(Record):
    """What was asked for."""

    name: str
    files: tuple[str, ...]  # as they were named
    stage: Stage  # as far as each goes
    at_once: int
    members: tuple[str, ...]


class MemberRecord(Record):
    """How one member is doing."""

    name: str
    recipe: str  # the file of this member alone
    run: str  # its run folder
    repo: str
    state: State = "waiting"
    stage: str = ""  # that it is in
    doing: str = ""  # the task of that stage, in its own words
    share: float | None = None  # of that task that is done
    where: str = ""
    attempts: int = 0
    seconds: float = 0.0  # of this attempt, or of the last
    remaining: float | None = None  # seconds, by the plan
    message: str = ""  # why it failed, waits again or isn't published


def members_in(folder: Path) -> list[MemberRecord]:
    """Return the records of a sweep's members, in their order."""
    sweep = SweepRecord.load(folder / SWEEP)
    paths = [folder / MEMBERS / f"{name}.json" for name in sweep.members]
    return [MemberRecord.load(path) for path in paths if path.is_file()]
