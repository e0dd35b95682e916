"""The plans of a matrix as one table, with their sums."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hubq.cli.bars import duration
from hubq.cli.options import client_for, print_json
from hubq.cli.outlook import Outlook, outlook
from hubq.machine.files import gigabytes

if TYPE_CHECKING:
    from hubq.stages.plan.members import PlannedMember, Totals

RUNS = Path("runs")
HOUR = 3600


class MatrixOutlook(NamedTuple):
    """Several plans on a machine."""

    members: "Sequence[PlannedMember]"
    seen: Sequence[Outlook]
    price: float | None  # of an hour, in the user's currency
    only_front: bool

    @property
    def seconds(self) -> float:
        """The time of all of them, one after the other."""
        return sum(each.forecast.seconds for each in self.seen)

    @property
    def money(self) -> float | None:
        """What that costs; None where no price was named."""
        return None if self.price is None else self.seconds / HOUR * self.price

    @property
    def totals(self) -> "Totals":
        """What all take together."""
        from hubq.stages.plan.members import PlannedMember, totals

        return totals(
            [
                PlannedMember(each.recipe, seen.plan)
                for each, seen in zip(self.members, self.seen, strict=True)
            ]
        )


def plan_matrix(path: Path, hub: str | None, gpu: str | None, price: float | None) -> MatrixOutlook:
    """Plan all that a file makes, on this machine or beside another GPU; nothing is saved."""
    from hubq.stages.plan.members import measured_first, plan_members
    from hubq.stages.recipe.matrix import read_matrix

    matrix = read_matrix(path)
    with client_for(hub, matrix.members[0].recipe.publish.org) as client:
        members = plan_members(matrix.members, client)
        seen = [
            outlook(each.plan, RUNS / each.recipe.name, gpu, base_known=is_known)
            for each, is_known in zip(members, measured_first(members), strict=True)
        ]
    return MatrixOutlook(members, seen, price, matrix.only_front)


def as_json(found: MatrixOutlook) -> dict[str, Any]:
    """Return the plans and their sums as JSON values."""
    rows = zip(found.members, found.seen, strict=True)
    sums: dict[str, Any] = dict(found.totals._asdict())
    return {
        "members": {each.recipe.name: seen.as_json() for each, seen in rows},
        "only_front": found.only_front,
        "totals": {**sums, "seconds": round(found.seconds, 1), "money": found.money},
    }


def show_matrix(found: MatrixOutlook, *, json: bool) -> None:
    """Print the plans of a matrix."""
    if json:
        print_json(as_json(found))
    else:
        _print_table(found)


def _print_table(found: MatrixOutlook) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for heading in ("recipe", "method"):
        table.add_column(heading, overflow="fold")
    for heading in ("bits", "stored", "size", "time", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("repo", overflow="fold")
    for each, seen in zip(found.members, found.seen, strict=True):
        plan = seen.plan
        adapter = f" + {each.recipe.adapter_name}" if each.recipe.adapt else ""
        table.add_row(
            each.recipe.name,
            f"{each.recipe.method_name}{adapter}",
            f"{plan.nominal_bits:.3g}",
            f"{plan.linear_bits:.3f}",
            gigabytes(plan.bytes),
            duration(seen.forecast.seconds),
            gigabytes(plan.device_memory or plan.peak_memory),
            plan.adaptation.repo if plan.adaptation else plan.repo,
        )
    console.print(table)
    for name, value in _facts(found):
        click.echo(f"{name:12} {value}")


def _facts(found: MatrixOutlook) -> list[tuple[str, str]]:
    """Say what all take together, and what can't work."""
    sums, device = found.totals, found.seen[0].forecast.device
    gpu = sums.device_memory
    memory = gigabytes(sums.memory)
    facts = [
        ("recipes", str(len(found.members))),
        ("on disk", f"{gigabytes(sums.published)} of weights, all results together"),
        ("storage", f"about {gigabytes(sums.storage)} with the bases and one run's states"),
        (
            "memory",
            f"at most {memory}"
            if gpu is None
            else f"at most {gigabytes(gpu)} on the GPU, {memory} of the host",
        ),
        (
            "time",
            f"about {duration(found.seconds)} one by one on {device}; a base that several share is "
            "measured with the first",
        ),
    ]
    if found.money is not None:
        facts.append(("money", f"about {found.money:,.2f}, at {found.price:g} an hour"))
    if found.only_front:
        facts.append(("publishes", "after all were measured, those on the front alone"))
    for each, seen in zip(found.members, found.seen, strict=True):
        facts += [("does not fit", f"{each.recipe.name}: {lack}") for lack in seen.lacking]
    return facts
