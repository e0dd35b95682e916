"""A recipe with its run folder, on its way through the stages."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hubq.cli.bars import Timed
from hubq.cli.options import (
    FILE,
    FOLDER,
    Command,
    client_for,
    hub_option,
    json_option,
)
from hubq.errors import UserError
from hubq.machine.processes import started_together
from hubq.machine.progress import Clock
from hubq.records.run_folder import BLOCKS, CHECKPOINT, REPORT, locked

if TYPE_CHECKING:
    from hubq.client.client import Client
    from hubq.machine.progress import Progress
    from hubq.records.checkpoint import Checkpoint
    from hubq.records.plan import Plan
    from hubq.records.report import Report
    from hubq.stages.publish.publish import Publication
    from hubq.stages.recipe.recipe import Recipe

RECIPE = "recipes/quickstart_awq_4bit.yaml"
Quantize = Callable[["Plan", Path, "Client", "Progress"], "Checkpoint"]


@dataclass(frozen=True)
class Stages:
    """One recipe with its run folder: every method does its stage unless its record is there."""

    recipe: "Recipe"
    run: Path
    client: "Client"
    progress: Timed
    clock: Clock = field(default_factory=Clock)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)  # of a stage: seconds

    def plan(self) -> "Plan":
        """Plan, or take the plan of the run folder."""
        from hubq.stages.plan.plan import plan

        with self.clock.timing("plan"):
            return plan(self.recipe, self.run, self.client)

    def checkpoint(self, apart: "Quantize | None" = None) -> "Checkpoint":
        """Quantize, or go on where a killed run stopped; in this process unless told otherwise."""
        from hubq.records.checkpoint import Checkpoint
        from hubq.stages.plan.replanning import shared_out
        from hubq.stages.quantize.quantize import quantize

        planned = shared_out(self.plan(), started_together(), self.run)
        path = self.run / CHECKPOINT
        if path.is_file():
            return Checkpoint.load(path)
        if place := self.goes_on():
            tell(f"{self.run} goes on {place}")
        with self._timing("quantize"), self._stoppable():
            work = apart or quantize
            checkpoint = work(planned, self.run, self.client, self.progress)
        self.parts["quantize"] |= checkpoint.seconds_by_part
        return checkpoint

    def prepare(self) -> None:
        """Begin to import what the next stage needs: seconds, in which another core plans."""
        if not (self.run / CHECKPOINT).is_file():
            from hubq.stages.publish import quantizing

            quantizing.prepare(self.recipe, self.client)
        elif not (self.run / REPORT).is_file():
            from hubq.stages.evaluate import measure

            measure.prepare(self.recipe.evaluate, self.client)

    def goes_on(self) -> str | None:
        """Say where quantizing goes on that was stopped; None where nothing of it is done."""
        is_begun = (self.run / BLOCKS).is_dir()
        if not is_begun or (self.run / CHECKPOINT).is_file():  # which is known without torch
            return None
        from hubq.stages.quantize.resuming import where_it_goes_on

        return where_it_goes_on(self.plan(), self.run)

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let SIGTERM do what Ctrl-C does, and say of both where quantizing will go on."""
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield
        except KeyboardInterrupt as stop:
            place = self.goes_on() or "from its first block"
            raise KeyboardInterrupt(f"Quantizing will go on {place}.") from stop
        finally:
            signal.signal(signal.SIGTERM, before)

    def report(self) -> "Report":
        """Measure the exported folder and its base."""
        from hubq.records.report import Report
        from hubq.stages.evaluate.evaluate import evaluate, refuse_unmeasurable
        from hubq.stages.evaluate.measure import prepare
        from hubq.stages.publish.quantizing import quantize_apart

        path = self.run / REPORT
        self.prepare()
        if not path.is_file():
            refuse_unmeasurable(self.plan())
        importing = partial(prepare, self.recipe.evaluate, self.client)
        checkpoint = self.checkpoint(partial(quantize_apart, meanwhile=importing))
        if path.is_file():
            return Report.load(path)
        planned = self.plan()
        with self._timing("evaluate"):
            return evaluate(planned, checkpoint, self.run, self.client, self.progress)

    @contextmanager
    def _timing(self, stage: str) -> Iterator[None]:
        """Time a stage, and what it reports of its tasks."""
        before = dict(self.progress.seconds)
        with self.clock.timing(stage):
            yield
        told = self.progress.seconds.items()
        parts = {title: each - before.get(title, 0) for title, each in told}
        # The checkpoint knows the parts of that.
        known = [title for title in parts if title.startswith("Quantizing")]
        self.parts[stage] = {title: each for title, each in parts.items() if title not in known}

    def card(self) -> Path:
        """Write the card: it is a function of the records, so it is always written anew."""
        from hubq.stages.card.card import renew
        from hubq.stages.compare.reports import find_siblings

        report = self.report()
        return renew(report, find_siblings(report, self.run, tell), self.run)

    def publication(self) -> "Publication":
        """Publish; the Hub is asked before anything is computed, and compared with at the end."""
        from hubq.stages.compare.reports import find_siblings, keep
        from hubq.stages.publish.publish import publish, remember_destination

        self.prepare()
        planned = self.plan()
        if not (self.run / REPORT).is_file():
            self.client.writable(planned.repo.partition("/")[0])
        remember_destination(planned.repo, self.run, self.client)
        report = self.report()
        with self.clock.timing("publish"):
            keep(find_siblings(report, self.run, tell, self.client), self.run)
            return publish(report, self.run, self.client, self.progress)


def tell(sentence: str) -> None:
    """Print what the user should know beside the result."""
    click.echo(sentence, err=True)


def stage_options(command: Command) -> Command:
    """Add what all stages take."""
    decorators: list[Callable[[Any], Any]] = [
        json_option,
        hub_option,
        click.option("--fresh", is_flag=True, help="Discard what the run folder holds."),
        click.option("--run", type=FOLDER, help="The run folder.  [default: runs/<recipe's name>]"),
        click.argument("recipe", type=FILE),
    ]
    return reduce(lambda decorated, add: add(decorated), decorators, command)


@contextmanager
def stages(
    recipe: Path, run: Path | None, fresh: bool, hub: str | None, *, together: bool = False
) -> Iterator[Stages]:
    """Read a recipe and open its run folder and its Hub.

    Raises UserError where torchrun has started several processes, unless they work together.
    """
    from hubq.cli.bars import progress
    from hubq.stages.plan.plan import plan_afresh
    from hubq.stages.recipe.recipe import read

    if started_together() > 1 and not together:
        raise UserError(
            "only `hubq quantize` works in several processes: run that by torchrun, then this "
            "without it, which goes on from there"
        )
    wanted = read(recipe)
    folder = run or Path("runs") / wanted.name
    with locked(folder), client_for(hub, wanted.publish.org) as client:
        if fresh:
            plan_afresh(wanted, folder, client)
        yield Stages(wanted, folder, client, Timed(progress()))
