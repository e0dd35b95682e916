"""The command that writes cards: of a recipe's run, of folders, of a repo; and checks them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli import releasing
from hubq.cli.options import FOLDER, client_for, example, hub_option, json_option, print_json
from hubq.cli.recipe_stages import RECIPE, stages, tell
from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.records.run_folder import (
    ATTESTATION,
    FAMILY,
    IN_A_REPO,
    REPORT,
    REPORT_IN_A_REPO,
    VERSIONS,
    locked,
)

if TYPE_CHECKING:
    from hubq.client.client import Client
    from hubq.records.report import Report

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
RECIPES = (".yaml", ".yml")


@click.command(
    epilog=example(f"hubq card {RECIPE}\n  hubq card --check model_cards/*\n  hubq card org/name")
)
@click.argument("targets", metavar="RECIPE|FOLDER|REPO...", nargs=-1, required=True)
@click.option(
    "--check",
    "how",
    flag_value="check",
    help="Write nothing: verify that the cards agree with their records.",
)
@click.option(
    "--fresh", "how", flag_value="fresh", help="Discard what the RECIPE's run folder holds."
)
@click.option(
    "--run",
    "--out",
    "place",
    type=FOLDER,
    help="The RECIPE's run folder, or where to write the card of a REPO.  "
    "[default: runs/<recipe's name>, or the repo's name]",
)
@hub_option
@json_option
def card(
    targets: tuple[str, ...], how: str | None, place: Path | None, hub: str | None, as_json: bool
) -> None:
    """Write the model card, with its pictures, from the measurements.

    For a RECIPE, the missing stages run first. A FOLDER (a run folder, or one in model_cards/) and
    a REPO on the Hub already have their report: nothing is measured again.
    """
    if how == "check":
        _check([Path(each) for each in targets], as_json)
        return
    _refuse_options(targets, place, fresh=how == "fresh")
    written = [_written(each, place, hub, fresh=how == "fresh") for each in targets]
    if as_json:
        print_json({"cards": [str(path) for path in written]})
    else:
        click.echo("\n".join(map(str, written)))


def _refuse_options(targets: tuple[str, ...], place: Path | None, *, fresh: bool) -> None:
    """Refuse options that say nothing about these targets."""
    if fresh and not all(map(_is_recipe, targets)):
        raise click.UsageError("--fresh is for recipes: a folder or a repo already has its report")
    if place and len(targets) > 1:
        raise click.UsageError("--run and --out take one target: cards would overwrite each other")
    if place and not _is_recipe(targets[0]) and Path(targets[0]).is_dir():
        raise click.UsageError(
            "--out is for a repo: the card of a folder is written in that folder"
        )


def _is_recipe(target: str) -> bool:
    return target.endswith(RECIPES) and not Path(target).is_dir()


def _written(target: str, place: Path | None, hub: str | None, *, fresh: bool) -> Path:
    """Write one card and return its path."""
    if _is_recipe(target):
        with stages(Path(target), place, fresh, hub) as stage:
            return releasing.card(stage)
    if Path(target).is_dir():
        return _in_place(Path(target))
    if REPO.fullmatch(target):
        with client_for(hub) as client:
            return _of_repo(target, place, client)
    raise UserError(
        f"there is no recipe, folder or repo {target}.\n"
        "Name a recipe (.yaml), a folder that holds report.json, or org/name on the Hub"
    )


def _in_place(folder: Path) -> Path:
    """Write the card of a folder anew, from its report and what lies beside it."""
    from hubq.stages.card.card import renew
    from hubq.stages.card.check import report_in
    from hubq.stages.compare.reports import find_siblings
    from hubq.stages.sweep.results import renew_family

    with locked(folder):
        if (folder / FAMILY).is_file():
            return renew_family(folder)
        report = report_in(folder)
        return renew(report, find_siblings(report, folder, tell), folder)


def _of_repo(repo: str, place: Path | None, client: "Client") -> Path:
    """Write the card of a published model into a folder of its own, records included."""
    from hubq.stages.card.card import renew
    from hubq.stages.compare.reports import find_siblings, report_on_hub

    folder = place or Path(repo.partition("@")[0].rpartition("/")[2])
    _require_cards(folder)
    report = _published(repo, client)
    folder.mkdir(parents=True, exist_ok=True)
    report.save(folder / REPORT)
    for name in (ATTESTATION, VERSIONS):
        if record := report_on_hub(repo, client, f"{IN_A_REPO}/{name}"):
            write_atomically(folder / name, record.read_bytes())
    return renew(report, find_siblings(report, folder, tell, client), folder)


def _require_cards(folder: Path) -> None:
    """Refuse a folder with files in it, unless they are a card and its records."""
    from hubq.stages.card.check import report_in

    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        report_in(folder)
    except UserError as error:
        raise UserError(
            f"{folder} holds files, but no card with its report: nothing was written there.\n"
            "Name a new folder with --out"
        ) from error


def _published(repo: str, client: "Client") -> "Report":
    from hubq.records.adapted_report import load_report
    from hubq.stages.compare.reports import report_on_hub

    path = report_on_hub(repo, client)
    if path is None:
        raise UserError(
            f"{repo} holds no {REPORT_IN_A_REPO}: hubq did not publish it, so there is nothing "
            "to write a card from.\nhubq evaluate --model measures any model"
        )
    return load_report(path)


def _check(folders: list[Path], as_json: bool) -> None:
    """Print how each card differs from its records; exit with 1 where one does."""
    from hubq.stages.card.check import differences
    from hubq.stages.sweep.results import family_differences

    found = {
        str(folder): family_differences(folder)
        if (folder / FAMILY).is_file()
        else differences(folder)
        for folder in folders
    }
    wrong = [line for lines in found.values() for line in lines]
    if as_json:
        print_json({"differences": found})
    if wrong:
        count = sum(map(bool, found.values()))
        raise UserError(
            "\n".join(wrong) + "\n"
            f"{count} of {len(found)} cards do not match their records. To "
            "rewrite one: hubq card FOLDER"
        )
    if not as_json:
        click.echo(f"{len(found)} cards match their records")
