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
from hubq.records.run_folder import (
    ADAPTATION,
    ADAPTED,
    BLOCKS,
    CHECKPOINT,
    REPORT,
    STEPS,
    locked,
)

if TYPE_CHECKING:
    from hubq.client.client import Client
    from hubq.machine.progress import Progress
    from hubq.records.adaptation import Adaptation
    from hubq.records.checkpoint import Checkpoint
    from hubq.records.plan import Plan
    from hubq.records.report import Report
    from hubq.stages.recipe.recipe import Recipe

RECIPE = "recipes/quickstart_awq_4bit.yaml"
WORK = ("Quantizing", "Correcting", "Training", "Steps ")  # begin titles of what records time
WITH_ADAPTER = "recipes/quickstart_low_rank_3bit.yaml"
Quantize = Callable[["Plan", Path, "Client", "Progress"], "Checkpoint"]
Adapt = Callable[["Plan", "Checkpoint", Path, "Client", "Progress"], "Adaptation"]


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
        with self._timing("quantize"), self._stoppable("Quantizing", "from its first block"):
            work = apart or quantize
            checkpoint = work(planned, self.run, self.client, self.progress)
        self.parts["quantize"] |= checkpoint.seconds_by_part
        return checkpoint

    def adaptation(self, apart: "Adapt | None" = None) -> "Adaptation":
        """Adapt, or go on where a killed run stopped; in this process unless told otherwise.

        Raises UserError for a recipe that doesn't say how.
        """
        from hubq.records.adaptation import Adaptation
        from hubq.stages.adapt.adapt import adapt
        from hubq.stages.publish.apart import quantize_apart

        planned = self.plan()
        if planned.adaptation is None:
            raise UserError(
                f"{self.recipe.name} has no section adapt, which says how the quantized model is "
                "taught or corrected: add one, such as `adapt: {name: low_rank, rank: 32}` "
                "(`hubq methods` lists all)"
            )
        checkpoint = self.checkpoint(quantize_apart)
        path = self.run / ADAPTED / ADAPTATION
        if path.is_file():
            return Adaptation.load(path)
        if place := self.goes_on():
            tell(f"{path.parent} goes on {place}")
        with self._timing("adapt"), self._stoppable("Adapting", "from its beginning"):
            work = apart or adapt
            adaptation = work(planned, checkpoint, self.run, self.client, self.progress)
        self.parts["adapt"] |= adaptation.seconds_by_part
        return adaptation

    def prepare(self) -> None:
        """Begin to import what the next stage needs: seconds, in which another core plans."""
        if not (self.run / CHECKPOINT).is_file() or self.is_to_adapt:
            from hubq.stages.publish import apart

            apart.prepare(self.recipe, self.client)
        elif not (self.run / REPORT).is_file():
            from hubq.stages.evaluate import measure

            measure.prepare(self.recipe.evaluate, self.client)

    def goes_on(self) -> str | None:
        """Say where the stage goes on that was stopped; None where nothing of it is done."""
        if (self.run / CHECKPOINT).is_file():
            return self._adapting_goes_on()
        if not (self.run / BLOCKS).is_dir():  # which is known without torch
            return None
        from hubq.stages.quantize.resuming import where_it_goes_on

        return where_it_goes_on(self.plan(), self.run)

    @property
    def is_to_adapt(self) -> bool:
        """Whether the recipe asks for an adapted model that isn't there yet."""
        return self.recipe.adapt is not None and not (self.run / ADAPTED / ADAPTATION).is_file()

    def _adapting_goes_on(self) -> str | None:
        """Say where adapting goes on that was stopped; None where nothing of it is done."""
        if not self.is_to_adapt or not (self.run / ADAPTED / STEPS).is_dir():
            return None  # which is known without torch
        from hubq.stages.adapt.going_on import where_it_goes_on

        return where_it_goes_on(self.plan(), self.run)

    @contextmanager
    def _stoppable(self, doing: str, first: str) -> Iterator[None]:
        """Let SIGTERM do what Ctrl-C does, and say of both where a stage will go on."""
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield
        except KeyboardInterrupt as stop:
            place = self.goes_on() or first
            raise KeyboardInterrupt(f"{doing} will go on {place}.") from stop
        finally:
            signal.signal(signal.SIGTERM, before)

    def report(self) -> "Report":
        """Measure the exported folder and its base; and what is adapted, beside both."""
        from hubq.records.adapted_report import load_report
        from hubq.stages.evaluate.evaluate import evaluate, evaluate_adapted, refuse_unmeasurable
        from hubq.stages.evaluate.measure import prepare
        from hubq.stages.publish.apart import adapt_apart, quantize_apart

        planned = self.plan()
        path, of_adapted = self.run / REPORT, self.run / ADAPTED / REPORT
        last = of_adapted if planned.adaptation else path
        self.prepare()
        if not last.is_file():
            refuse_unmeasurable(planned)
        importing = partial(prepare, self.recipe.evaluate, self.client)
        checkpoint = self.checkpoint(partial(quantize_apart, meanwhile=importing))
        adaptation = self.adaptation(adapt_apart) if planned.adaptation else None
        if last.is_file() and path.is_file():
            return load_report(last)
        planned = self.plan()
        with self._timing("evaluate"):
            report = (
                load_report(path)
                if path.is_file()
                else evaluate(planned, checkpoint, self.run, self.client, self.progress)
            )
            if adaptation is None:
                return report
            return evaluate_adapted(report, adaptation, self.run, self.client, self.progress)

    @contextmanager
    def _timing(self, stage: str) -> Iterator[None]:
        """Time a stage, and what it reports of its tasks."""
        before = dict(self.progress.seconds)
        with self.clock.timing(stage):
            yield
        told = self.progress.seconds.items()
        parts = {title: each - before.get(title, 0) for title, each in told}
        # The checkpoint knows the parts of that, and the adaptation its own.
        known = [title for title in parts if title.startswith(WORK)]
        self.parts[stage] = {title: each for title, each in parts.items() if title not in known}


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
