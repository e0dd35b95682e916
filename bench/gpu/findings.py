"""What a check finds, and how it reaches the table: a line of JSON each."""

import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from hubq.errors import UserError

MARK = "finding "  # before the JSON, as libraries print too


@dataclass(frozen=True)
class Finding:
    """One fact: what was expected and what was found."""

    name: str
    expected: str = ""
    found: str = ""
    ok: bool | None = True  # None: it was not run

    @property
    def verdict(self) -> str:
        """The result in a word or two."""
        return {True: "ok", False: "FAILED", None: "not run"}[self.ok]

    def line(self) -> str:
        """Write it as a line."""
        return MARK + json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> "Finding | None":
        """Read it from a line; None where that says something else."""
        return cls(**json.loads(line.removeprefix(MARK))) if line.startswith(MARK) else None


class Row(NamedTuple):
    """A finding in the table."""

    check: str
    finding: Finding
    seconds: float  # since the finding before


def within(name: str, found: float, expected: float, share: float) -> Finding:
    """Compare two numbers that may lie apart by a share of the expected one."""
    apart = abs(found - expected) / abs(expected) if expected else abs(found)
    return Finding(
        name, f"{expected:.6g}, within {share:.2%}", f"{found:.6g}, {apart:.2%} apart",
        ok=apart <= share,
    )  # fmt: skip


def at_most(name: str, found: float, limit: float, unit: str) -> Finding:
    """Compare a number with the most that it may be."""
    return Finding(name, f"at most {limit:.3g} {unit}", f"{found:.3g} {unit}", ok=found <= limit)


def equal(name: str, found: object, expected: object) -> Finding:
    """Compare two values that have to be equal."""
    alike = found == expected
    return Finding(name, "equal", "equal" if alike else "NOT equal", ok=alike)


def told(name: str, found: str, beside: str = "") -> Finding:
    """Give a number that nothing is required of, and what to read it beside."""
    return Finding(name, beside, found)


def not_run(name: str, why: str) -> Finding:
    """Say that this machine can't do it."""
    return Finding(name, "", why, ok=None)


def in_turn(names: list[str], work: Callable[[str], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what each name's work finds; one that breaks has failed, and the next goes on."""
    for name in names:
        try:
            yield from work(name)
        except faults() as error:
            traceback.print_exc()
            said = str(error).strip().partition("\n")[0]
            yield Finding(name, "no error", f"{type(error).__name__}: {said}", ok=False)


def faults() -> tuple[type[Exception], ...]:
    """Name what a device, a library or hubq raises."""
    own = (UserError, RuntimeError, ValueError, TypeError, AttributeError, LookupError)
    others = (AssertionError, ArithmeticError, OSError, ImportError)
    if find_spec("triton") is None:
        return own + others
    return (*own, *others, import_module("triton.errors").TritonError)
