"""Where members of a sweep work: the seam between the queue and machines."""

from pathlib import Path
from typing import NamedTuple, Protocol


class Needs(NamedTuple):
    """What a member holds at most, in bytes, by its plan."""

    memory: int  # without which it can't work
    beside: int  # what it takes where there is more: models that are measured whole
    device_memory: int | None  # of one GPU; None: it needs none


class Work(NamedTuple):
    """What a member does: words of a command, and where it tells how it goes."""

    name: str
    words: tuple[str, ...]  # behind `hubq`
    events: Path  # gets a line of JSON for each thing that happens
    log: Path  # gets whatever else it prints
    needs: Needs


class Handle(Protocol):
    """A member at work."""

    where: str

    def poll(self) -> int | None:
        """Return the exit code once it has ended, negative for a signal; None: it works."""
        ...

    def stop(self) -> None:
        """Ask it to end and to keep what is finished."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Executor(Protocol):
    """Places where members work."""

    def why_never(self, needs: Needs) -> str | None:
        """Say why a member can work in no place, even alone; None: it can."""
        ...

    def place_for(self, needs: Needs) -> str | None:
        """Name a place where a member fits beside those that work; None: it has to wait."""
        ...

    def start(self, work: Work, place: str) -> Handle:
        """Let a member work in a place."""
        ...
