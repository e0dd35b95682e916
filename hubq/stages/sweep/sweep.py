"""A sweep: the recipes of some files, each as far as it is wanted, and what is on their front."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import yaml

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.records.adapted_report import load_report
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.records.run_folder import ADAPTED, CHECKPOINT, PLAN, PUBLICATION, REPORT
from hubq.records.sweep import (
    EVENTS,
    LOGS,
    MEMBERS,
    RECIPES,
    SWEEP,
    SWEEPS,
    MemberRecord,
    Stage,
    SweepRecord,
)
from hubq.stages.compare.comparison import families
from hubq.stages.compare.pareto import axes, better
from hubq.stages.plan.differences import understood
from hubq.stages.plan.forecast import forecast_here
from hubq.stages.plan.members import PlannedMember, measured_first, plan_members
from hubq.stages.publish.publish import Publication
from hubq.stages.recipe.matrix import read_matrix
from hubq.stages.recipe.members import Member
from hubq.stages.recipe.recipe import Recipe
from hubq.stages.sweep.executor import Executor, Work
from hubq.stages.sweep.needs import needs_of
from hubq.stages.sweep.queue import Item, Queue, Tell, Trying

RUNS = Path("runs")
LONGEST = 60  # characters of a name that is made of several files'


class Asked(NamedTuple):
    """What somebody wants of some files."""

    name: str
    files: tuple[Path, ...]
    stage: Stage
    at_once: int

    @property
    def folder(self) -> Path:
        """Where the sweep keeps what it knows."""
        return SWEEPS / self.name


class Wanted(NamedTuple):
    """All recipes of some files, and which of them wait for the front."""

    members: list[Member]
    only_front: frozenset[str]  # by name

    @property
    def organizations(self) -> list[str]:
        """Those that something is published by."""
        return list(dict.fromkeys(each.recipe.publish.org for each in self.members))


def named_after(files: Sequence[Path]) -> str:
    """Name a sweep after its files."""
    return "-".join(dict.fromkeys(each.stem for each in files))[:LONGEST].strip("-.")


def read_all(files: Sequence[Path]) -> Wanted:
    """Read the recipes of all files; raise UserError with the mistakes of all of them."""
    members: list[Member] = []
    front: set[str] = set()
    mistakes: list[str] = []
    for path in files:
        try:
            matrix = read_matrix(path)
        except UserError as error:
            mistakes.append(str(error))
            continue
        members += matrix.members
        front |= {each.recipe.name for each in matrix.members if matrix.only_front}
    names = [each.recipe.name for each in members]
    for name in sorted({each for each in names if names.count(each) > 1}):
        mistakes.append(f"two recipes are called {name}: rename a file, which names its run folder")
    if mistakes:
        raise UserError("\n".join(mistakes))
    return Wanted(members, frozenset(front))


def prepare(asked: Asked, wanted: Wanted, client: Client) -> "Sweep":
    """Plan all, and write each recipe to a file of its own; what is done already stays so."""
    planned = plan_members(wanted.members, client)
    known = measured_first(planned)
    for place in (MEMBERS, RECIPES, EVENTS, LOGS):
        (asked.folder / place).mkdir(parents=True, exist_ok=True)
    SweepRecord(
        name=asked.name,
        files=tuple(map(str, asked.files)),
        stage=asked.stage,
        at_once=asked.at_once,
        members=tuple(each.recipe.name for each in planned),
    ).save(asked.folder / SWEEP)
    sweep = Sweep(asked, wanted.only_front, client)
    for member, is_known in zip(planned, known, strict=True):
        stages = forecast_here(member.plan, base_known=is_known).stages
        sweep.add(member, {stage: sum(parts.values()) for stage, parts in stages.items()})
    return sweep


class Sweep:
    """Members on their way through a queue, some of them twice."""

    def __init__(self, asked: Asked, only_front: frozenset[str], client: Client) -> None:
        self.asked, self.only_front, self.client = asked, only_front, client
        self.items: list[Item] = []
        self.recipes: dict[str, Recipe] = {}

    @property
    def records(self) -> list[MemberRecord]:
        """How all members are doing, in the order of their files."""
        return [each.record for each in self.items]

    def add(self, member: PlannedMember, seconds: Mapping[str, float]) -> None:
        """Put a member into the queue, with its forecast by stage; it may be done already."""
        recipe, plan = member
        folder, name = self.asked.folder, recipe.name
        file = folder / RECIPES / f"{name}.yaml"
        write_recipe(recipe, file)
        record = MemberRecord(
            name=name,
            recipe=str(file),
            run=str(RUNS / name),
            repo=plan.adaptation.repo if plan.adaptation else plan.repo,
        )
        stage = self._first_stage(name)
        if is_done(record, recipe, stage, self.client.url):
            done_before = {"state": "done", "stage": stage, "message": "was done before"}
            record = record.model_copy(update=done_before)
        else:
            record = record.model_copy(update={"remaining": sum(seconds.values())})
        record.save(folder / MEMBERS / f"{name}.json")
        work = Work(
            name=name,
            words=words_for(stage, record),
            events=(folder / EVENTS / f"{name}.jsonl").absolute(),
            log=folder / LOGS / f"{name}.log",
            needs=needs_of(plan),
        )
        self.items.append(Item(record, work, seconds, adapts=recipe.adapt is not None))
        self.recipes[name] = recipe

    def _first_stage(self, name: str) -> Stage:
        """Return how far a member goes before the front is known."""
        waits = name in self.only_front and self.asked.stage == "publish"
        return "evaluate" if waits else self.asked.stage

    def run(self, executor: Executor, tell: Tell, trying: Trying) -> None:
        """Let all members work; then let those on the front be published that waited for it."""
        self._queue(self.items, executor).run(tell, trying)
        if self.asked.stage == "publish" and self.only_front:
            chosen = list(self._on_front(tell))
            self._queue(chosen, executor).run(tell, trying)

    def _queue(self, items: Iterable[Item], executor: Executor) -> Queue:
        at_once, folder = self.asked.at_once, self.asked.folder / MEMBERS
        return Queue(list(items), executor, at_once, folder)

    def _on_front(self, tell: Tell) -> Iterator[Item]:
        """Yield the members to publish, and say of the others why they aren't.

        Of a base of which one could not be measured nothing is published: it might beat the others.
        """
        waiting = [each for each in self.items if each.record.name in self.only_front]
        measured = [each for each in waiting if each.record.state == "done"]
        unknown = {self._base(each) for each in waiting if each.record.state != "done"}
        beaten = beaten_by(report for each in measured if (report := self.report(each.record)))
        for item in measured:
            if self._base(item) in unknown:
                why = "measured; others of its base failed, so its front is not known yet"
                item.record = item.record.model_copy(update={"state": "stopped", "message": why})
            elif (by := beaten.get(item.record.repo)) is not None:
                why = f"not published: {by} clearly beats it"
                item.record = item.record.model_copy(update={"state": "beaten", "message": why})
            elif not is_done(item.record, self._recipe(item), "publish", self.client.url):
                item.record = item.record.model_copy(update={"state": "waiting", "attempts": 0})
                item.work = item.work._replace(words=words_for("publish", item.record))
                item.forecast = {"publish": 0.0}
                yield item
            item.record.save(self.asked.folder / MEMBERS / f"{item.record.name}.json")
            tell("front", item.record)

    def _recipe(self, item: Item) -> Recipe:
        return self.recipes[item.record.name]

    def _base(self, item: Item) -> str:
        return self._recipe(item).model.model_dump_json()

    def reports(self) -> list[Report]:
        """Return the reports of all members that were measured."""
        return [report for each in self.records if (report := self.report(each)) is not None]

    def report(self, record: MemberRecord) -> Report | None:
        """Return what was measured of a member last; None: nothing yet."""
        folder = Path(record.run)
        if self.recipes[record.name].adapt is not None:
            folder /= ADAPTED
        return load_report(folder / REPORT) if (folder / REPORT).is_file() else None


def words_for(stage: Stage, record: MemberRecord) -> tuple[str, ...]:
    """Return the command that takes a member as far as a stage."""
    return (stage, record.recipe, "--run", record.run)


def beaten_by(reports: Iterable[Report]) -> dict[str, str]:
    """Name of each repo that another clearly beats one that does."""
    found: dict[str, str] = {}
    for family in families(reports):
        compared = axes(family.entries)
        for name in compared.points if compared else ():
            assert compared is not None
            if (by := better(compared, name)) is not None:
                found[name] = by
    return found


def write_recipe(recipe: Recipe, file: Path) -> None:
    """Write a recipe as a file that reads back as the same, wherever the first one lies."""
    values = recipe.model_dump(mode="json", exclude={"name"})
    text = f"# Made by hubq sweep.\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}"
    write_atomically(file, text.encode())


def is_done(record: MemberRecord, recipe: Recipe, stage: Stage, endpoint: str) -> bool:
    """Tell whether a run folder holds what a recipe makes as far as a stage."""
    run = Path(record.run)
    last = run / ADAPTED if recipe.adapt is not None and stage != "quantize" else run
    file = last / {"quantize": CHECKPOINT, "evaluate": REPORT, "publish": PUBLICATION}[stage]
    if not file.is_file() or not (run / PLAN).is_file():
        return False
    with suppress(UserError):  # records of another version: the command says what to do
        if understood(Plan.load(run / PLAN).recipe) != recipe.model_dump(mode="json"):
            return False
        return stage != "publish" or Publication.load(file).endpoint == endpoint
    return False
