"""All recipes of a matrix planned together: what they name alike is looked up once.

Every mistake of every recipe is told at once. Where two would be published as one repo, the later
gets what tells it apart at the end of its name.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.plan import Plan
from hubq.records.vocabulary import LONGEST_NAME
from hubq.stages.plan.plan import LookedUp, look_up
from hubq.stages.plan.shortages import disk_needed
from hubq.stages.recipe.members import Member
from hubq.stages.recipe.recipe import Recipe


class PlannedMember(NamedTuple):
    """A recipe of a matrix, with the name of its repo where that differs, and its plan."""

    recipe: Recipe
    plan: Plan


class Totals(NamedTuple):
    """What all members take together, in bytes."""

    published: int  # of all results
    memory: int  # of the host, of the largest
    device_memory: int | None  # of a GPU, of the largest; None: none was there
    storage: int  # of the bases, all results, and what the largest needs beside while it runs


def plan_members(members: Sequence[Member], client: Client) -> list[PlannedMember]:
    """Plan recipes without run folders; raise UserError with what can't work of any of them."""
    known, found = LookedUp(), []
    mistakes: dict[str, list[str]] = {}
    repos: dict[str, str] = {}  # lower case, as the Hub tells names apart -> the member's name
    for member in members:
        try:
            planned = _planned(member, client, known, repos)
        except UserError as error:
            where = "" if member.line is None else f" (line {member.line})"
            mistakes.setdefault(str(error), []).append(f"{member.recipe.name}{where}")
            continue
        repos |= dict.fromkeys(map(str.lower, _repos(planned.plan)), member.recipe.name)
        found.append(planned)
    if mistakes:
        raise UserError(_told(mistakes, len(members)))
    return found


def _planned(
    member: Member, client: Client, known: LookedUp, repos: Mapping[str, str]
) -> PlannedMember:
    """Plan one; under another repo's name where an earlier member has its own."""
    plan = look_up(member.recipe, client, known)
    if not _taken(plan, repos):
        return PlannedMember(member.recipe, plan)
    rest = f"-{member.apart}".replace("_", "-") if member.apart else ""
    name = plan.repo.rpartition("/")[2][: LONGEST_NAME - len(rest)].rstrip("-.") + rest
    publish = member.recipe.publish.model_copy(update={"name": name})
    recipe = member.recipe.model_copy(update={"publish": publish})
    plan = look_up(recipe, client, known)
    if other := _taken(plan, repos):
        raise UserError(
            f"it would be published as {plan.repo}, and so would {other}: make one of them by a "
            "file of its own, with another publish.org or a publish.name"
        )
    return PlannedMember(recipe, plan)


def _taken(plan: Plan, repos: Mapping[str, str]) -> str | None:
    """Name the member that has one of a plan's repos; None: nobody has."""
    return next((repos[each.lower()] for each in _repos(plan) if each.lower() in repos), None)


def _repos(plan: Plan) -> list[str]:
    """Name the repos that a plan creates."""
    return [plan.repo, *([plan.adaptation.repo] if plan.adaptation else [])]


def _told(mistakes: Mapping[str, Sequence[str]], number: int) -> str:
    """Say each mistake once, with the members that have it."""
    wrong = sum(map(len, mistakes.values()))
    lines = [f"{wrong} of {number} recipes can't work:"]
    for sentence, names in mistakes.items():
        lines.append(f"{', '.join(names)}:")
        lines += [f"  {line}" for line in sentence.splitlines()]
    return "\n".join(lines)


def measured_first(members: Iterable[PlannedMember]) -> list[bool]:
    """Tell of each member whether another before it has the same base measured the same way."""
    seen: set[str] = set()
    found = []
    for recipe, plan in members:
        evaluate = recipe.evaluate.model_dump_json(exclude={"require"})
        key = f"{plan.source} {plan.part} {evaluate}"
        found.append(key in seen)
        seen.add(key)
    return found


def totals(members: Sequence[PlannedMember]) -> Totals:
    """Sum up what all members take."""
    plans = [each.plan for each in members]
    bases = {(plan.source, plan.part): plan.base_bytes for plan in plans}
    published = {plan.repo: _published(plan) for plan in plans}
    devices = [plan.device_memory for plan in plans if plan.device_memory is not None]
    beside = max(disk_needed(plan) - _published(plan) for plan in plans)
    return Totals(
        published=sum(published.values()),
        memory=max(plan.peak_memory for plan in plans),
        device_memory=max(devices, default=None),
        storage=sum(bases.values()) + sum(published.values()) + beside,
    )


def _published(plan: Plan) -> int:
    """Return the bytes of what a plan publishes."""
    return plan.bytes + (plan.adaptation.bytes if plan.adaptation else 0)
