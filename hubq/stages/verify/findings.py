"""The shape of a check and of what it finds."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from hubq.errors import UserError
from hubq.stages.verify.gather import Subject

Status = Literal["ok", "failed", "unknown"]
SHOWN = 3  # of what is wrong
LONGEST = 200  # characters of a text that a stranger wrote
# What a stranger's values may raise where no writer gives such: each check is one way to read them.
BROKEN = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError, AssertionError),
)


class Found(NamedTuple):
    """What a check found, and why it says so."""

    status: Status
    reason: str


class Finding(NamedTuple):
    """What a check found, with its name."""

    check: str
    status: Status
    reason: str


Check = Callable[[Subject], Found]
NOT_OURS = Found("unknown", "not made by hubq: it holds no report")
BEFORE = Found("unknown", "no attestation: it was made by a hubq before there were any")


def applied(check: Check, subject: Subject) -> Finding:
    """Apply a check; what can't be read is a failure of it too."""
    try:
        found = check(subject)
    except UserError as error:
        found = Found("failed", str(error))
    except BROKEN as error:
        said = f"{type(error).__name__}: {error}"[:LONGEST]
        found = Found("failed", f"the release holds values that no hubq writes ({said})")
    return Finding(check.__name__.replace("_", "-"), *found)


def judged(wrong: Sequence[str], right: str) -> Found:
    """Say that something is right, or the first few things that are wrong."""
    if not wrong:
        return Found("ok", right)
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return Found("failed", "; ".join(each[:LONGEST] for each in wrong[:SHOWN]) + more)
