"""The model card: README.md as a pure function of the report."""

from pathlib import Path

from hubq.evaluate import Report


def render(report: Report) -> str:
    """Return the card's text, metadata included."""
    raise NotImplementedError


def card(report: Report, run: Path) -> Path:
    """Write run/README.md and return its path."""
    raise NotImplementedError
