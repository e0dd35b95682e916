"""What hubq says when the user can mend something."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake or a circumstance that the user can mend: says what, where, and the way out."""


class PassingError(UserError):
    """A circumstance that may pass by itself, such as a network that is away."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the nearest known spelling as a clause, or all that is known when nothing is near."""
    choices = sorted(known)
    near = get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(choices)}"
