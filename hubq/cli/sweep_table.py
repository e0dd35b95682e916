"""What a sweep shows: a table that is drawn anew, lines where no terminal is, or JSON."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from hubq.records.sweep import MemberRecord

QUIET = ("progress",)  # events that give no line
COLORS = {"done": "green", "failed": "red", "running": "cyan", "retrying": "yellow"}
LONGEST = 60  # characters of a message in the table


class Lines:
    """A line for each thing that happens, but for what only goes on."""

    def __call__(self, event: str, member: "MemberRecord") -> None:
        """Say what happened."""
        if event in QUIET:
            return
        more = {
            "started": f"on {member.where}, attempt {member.attempts}",
            "stage": member.stage,
            "done": f"in {duration(member.seconds)}",
        }.get(event, member.message)
        click.echo(f"{member.name}: {event} {more}".rstrip(), err=True)


class Events:
    """Each thing that happens as a line of JSON on standard output."""

    def __call__(self, event: str, member: "MemberRecord") -> None:
        """Print an event with the member as it is then."""
        told = {"time": round(time.time(), 3), "event": event, **member.model_dump(mode="json")}
        click.echo(json.dumps(told, ensure_ascii=False))


class Drawn:
    """A table of all members that is drawn anew whenever something happens."""

    def __init__(self, members: "Sequence[MemberRecord]", at_once: int, live: "Live") -> None:
        self.members = {each.name: each for each in members}
        self.at_once, self.live = at_once, live

    def __call__(self, event: str, member: "MemberRecord") -> None:
        """Take in what happened; every one has its row."""
        self.members[member.name] = member
        self.live.update(table(list(self.members.values()), self.at_once))


@contextmanager
def shown(
    members: "Sequence[MemberRecord]", at_once: int, *, as_json: bool
) -> "Iterator[Drawn | Events | Lines]":
    """Give what suits standard error, or standard output for JSON."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if as_json:
        yield Events()
    elif not console.is_terminal:
        yield Lines()
    else:
        with Live(table(members, at_once), console=console, refresh_per_second=4) as live:
            yield Drawn(members, at_once, live)


def table(members: "Sequence[MemberRecord]", at_once: int) -> "Table":
    """Return a table of members: state, stage, how far, how long yet, and where."""
    from rich.box import SIMPLE
    from rich.table import Table

    found = Table(box=SIMPLE, show_edge=False, pad_edge=False, caption=_sum(members, at_once))
    for heading in ("recipe", "state", "stage", "now", "done", "ETA", "where"):
        found.add_column(heading, overflow="fold")
    for each in members:
        found.add_row(
            each.name,
            f"[{COLORS[each.state]}]{each.state}[/]" if each.state in COLORS else each.state,
            each.stage,
            (each.doing or each.message.partition("\n")[0])[:LONGEST],
            "" if each.share is None else f"{each.share:.0%}",
            "" if each.remaining is None else duration(each.remaining),
            each.where,
        )
    return found


def _sum(members: "Sequence[MemberRecord]", at_once: int) -> str:
    """Say how many are how far, and how long the rest takes by the plan."""
    counts: dict[str, int] = {}
    for each in members:
        counts[each.state] = counts.get(each.state, 0) + 1
    left = [each.remaining or 0.0 for each in members]
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    remaining = max(sum(left) / at_once, *left, 0.0) if left else 0.0
    return f"{said}; about {duration(remaining)} left" if remaining else said
