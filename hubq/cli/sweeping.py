"""The command that takes many recipes through their stages, and shows how they are doing."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.options import FILE, FOLDER, client_for, example, hub_option, json_option, print_json
from hubq.cli.sweep_table import shown, table
from hubq.errors import UserError
from hubq.records.run_folder import is_locked, locked

if TYPE_CHECKING:
    from hubq.records.sweep import MemberRecord, Stage
    from hubq.stages.sweep.sweep import Asked, Sweep, Wanted

STAGES = ("quantize", "evaluate", "publish")
MATRIX = "recipes/family_smollm2.yaml"


@click.command(
    epilog=example(f"hubq sweep {MATRIX} --hub local --at-once 2\n  hubq sweep --status")
)
@click.argument("recipes", nargs=-1, type=FILE)
@click.option("--on", "machine", type=click.Choice(["local"]), default="local", show_default=True)
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    help="How many work side by side, where memory allows.  [default: the number of GPUs, or 1]",
)
@click.option(
    "--stage",
    type=click.Choice(STAGES),
    default="publish",
    show_default=True,
    help="How far each recipe goes.",
)
@click.option("--name", help="What the sweep is called.  [default: the files' names]")
@click.option(
    "--results",
    type=FOLDER,
    default=Path("model_cards"),
    show_default=True,
    help="Where the family's page goes: its picture, its table and its front.",
)
@click.option("--status", is_flag=True, help="Only show how a sweep is doing, from any terminal.")
@hub_option
@json_option
def sweep(  # noqa: PLR0913 - the options of a command
    recipes: tuple[Path, ...],
    machine: str,
    at_once: int | None,
    stage: "Stage",
    name: str | None,
    results: Path,
    status: bool,
    hub: str | None,
    as_json: bool,
) -> None:
    """Run many recipes, and all that a matrix makes, as a queue of processes.

    Each is an ordinary run with its own run folder in runs/. None starts that doesn't fit into
    memory beside those at work, or without a GPU of its own where there are GPUs. What passes by
    itself is tried again; a failure stops nobody else. Ctrl-C keeps what is finished, and the same
    command goes on.
    """
    assert machine == "local", "there is one kind yet"
    from hubq.stages.sweep.sweep import Asked, named_after, read_all

    if name is not None and (Path(name).name != name or name.startswith(".")):
        raise click.BadParameter(f"{name} names no folder of sweeps/", param_hint="--name")
    if status:
        _show_status(_known(name or named_after(recipes)), as_json=as_json)
        return
    if not recipes:
        raise click.UsageError("name a recipe or a matrix, or use --status")
    wanted = read_all(recipes)
    asked = Asked(name or named_after(recipes), recipes, stage, at_once or _places())
    with locked(asked.folder):
        _run(asked, wanted, hub, results, as_json=as_json)


def _places() -> int:
    """Return how many members work at once if nobody says."""
    import torch

    return max(1, torch.cuda.device_count())


def _run(
    asked: "Asked", wanted: "Wanted", hub: str | None, results: Path, *, as_json: bool
) -> None:
    """Plan, run the queue, write the family's page, and say what failed."""
    from hubq.client.credentials import environment_for
    from hubq.stages.sweep.local import LocalProcesses
    from hubq.stages.sweep.needs import capacity_here
    from hubq.stages.sweep.queue import Trying
    from hubq.stages.sweep.sweep import prepare

    with ExitStack() as hubs:
        clients = [hubs.enter_context(client_for(hub, each)) for each in wanted.organizations]
        client = clients[-1]
        work = prepare(asked, wanted, client)
        environment = environment_for(client.url, client.sent_token)
        executor = LocalProcesses(capacity_here(), asked.at_once, environment)
        try:
            with shown(work.records, asked.at_once, as_json=as_json) as tell:
                work.run(executor, tell, Trying())
        except KeyboardInterrupt as stop:
            again = " ".join(map(str, asked.files))
            raise KeyboardInterrupt(f"The sweep goes on by: hubq sweep {again}") from stop
    for page in _pages(work, results):
        click.echo(page, err=as_json)
    _refuse_failed(work, as_json=as_json)


def _pages(work: "Sweep", results: Path) -> list[Path]:
    """Write the page of each family that was measured."""
    from hubq.stages.compare.comparison import families
    from hubq.stages.sweep.results import write_family

    return [write_family(each, results) for each in families(work.reports())]


def _refuse_failed(work: "Sweep", *, as_json: bool) -> None:
    """Raise UserError with what failed, and how to go on with each."""
    records = work.records
    failed = [each for each in records if each.state in ("failed", "stopped")]
    if not failed:
        if not as_json:
            _print(records, work.asked.at_once)
        return
    lines = [f"{len(failed)} of {len(records)} recipes are not done:"]
    for each in failed:
        stage = f" ({each.stage})" if each.stage else ""
        lines.append(f"{each.name}{stage}:")
        lines += [f"  {line}" for line in each.message.splitlines()]
        lines.append(f"  again: hubq {work.asked.stage} {each.recipe} --run {each.run}")
    lines.append(f"All of them again: hubq sweep {' '.join(map(str, work.asked.files))}")
    raise UserError("\n".join(lines))


def _known(name: str) -> Path:
    """Return the folder of a sweep, or of the one that was last begun; raise UserError for none."""
    from hubq.records.sweep import SWEEP, SWEEPS

    if name:
        folder = SWEEPS / name
        if not (folder / SWEEP).is_file():
            raise UserError(f"there is no sweep {name} in {SWEEPS.absolute()}: begin it first")
        return folder
    found = sorted(SWEEPS.glob(f"*/{SWEEP}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"no sweep was begun here: {SWEEPS.absolute()} holds none")
    return found[-1].parent


def _show_status(folder: Path, *, as_json: bool) -> None:
    """Show what a sweep's records say, and whether a process is at it."""
    from hubq.records.sweep import SWEEP, SweepRecord, members_in

    record, members = SweepRecord.load(folder / SWEEP), members_in(folder)
    at_work = is_locked(folder)
    if as_json:
        told = [each.model_dump(mode="json") for each in members]
        print_json({**record.model_dump(mode="json"), "at_work": at_work, "members": told})
        return
    _print(members, record.at_once)
    if not at_work:
        click.echo(f"No process works at it: hubq sweep {' '.join(record.files)} goes on")


def _print(members: "list[MemberRecord]", at_once: int) -> None:
    from rich.console import Console

    Console().print(table(members, at_once))
