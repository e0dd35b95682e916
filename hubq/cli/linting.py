"""The command that says which engines load a release, and mends what it can."""

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.options import client_for, example, hub_option, json_option, print_json
from hubq.errors import UserError

if TYPE_CHECKING:
    from hubq.client.client import Client
    from hubq.stages.lint.fix import Mended
    from hubq.stages.lint.lint import Verdict
    from hubq.stages.lint.release import Release

SHOWN = 30  # lines of a change
LONGEST = 160  # characters of a line that is shown


@click.command(epilog=example("hubq lint ./Llama-2-7B-GPTQ\n  hubq lint org/name --fix"))
@click.argument("target", metavar="FOLDER_OR_REPO")
@click.option(
    "--fix",
    is_flag=True,
    help="Mend what can be mended without touching weights: files of a folder, a commit to a repo "
    "of yours, a pull request to a stranger's. Shows the change, and asks before it is made.",
)
@click.option("--yes", is_flag=True, help="With --fix: don't ask.")
@hub_option
@json_option
def lint(target: str, fix: bool, yes: bool, hub: str | None, as_json: bool) -> None:
    """Say which engines load a model and why others don't, by rules with their sources.

    FOLDER_OR_REPO is anybody's: a model's folder, a run folder, org/name or org/name@revision. Only
    headers and small files are read, no weights. The exit code is 1 where something is an error: an
    engine would fail or answer garbage, or the Hub refuse the repo.
    """
    from hubq.stages.lint.lint import lint as verdict_on

    if yes and not fix:
        raise click.UsageError("--yes answers what --fix asks: add --fix")
    if Path(target).is_dir():
        from hubq.stages.lint.gather import folder_release

        release = folder_release(Path(target))
        made = _mend_folder(release, Path(target), yes) if fix else None
    else:
        with client_for(hub) as client:
            release = _repo(target, client)
            made = _mend_repo(release, client, yes) if fix else None
    verdict = verdict_on(made[0].release if made else release)
    if as_json:
        fixed = {"fixed": [each.as_json() for each in made[0].done], "at": made[1]} if made else {}
        print_json(verdict.as_json() | fixed)
    else:
        _tell(verdict, made)
    if verdict.errors:
        click.get_current_context().exit(1)


def _repo(target: str, client: "Client") -> "Release":
    from hubq.stages.lint.gather import repo_release

    if target.startswith((".", "/", "~")) or target.partition("@")[0].count("/") != 1:
        raise UserError(f"there is no folder {target}; name one, or a repo as org/name")
    return repo_release(target, client)


def _mend_folder(release: "Release", folder: Path, yes: bool) -> "tuple[Mended, str] | None":
    """Write mended files into a folder, if the user agrees to them."""
    from hubq.stages.lint.fix import mend, write

    mended = mend(release)
    if not _agreed(mended, release, f"write that into {folder}", yes):
        return None
    write(mended, folder)
    return mended, str(folder)


def _mend_repo(release: "Release", client: "Client", yes: bool) -> "tuple[Mended, str] | None":
    """Commit or propose mended files, if the user agrees to them."""
    from hubq.stages.lint.fix import is_own, mend, push

    mended = mend(release)
    own = bool(mended.done) and is_own(str(release.repo), client)
    how = "commit that to" if own else "open a pull request with that at"
    if not _agreed(mended, release, f"{how} {client.url}/{release.repo}", yes):
        return None
    return mended, push(mended, client, own=own)


def _agreed(mended: "Mended", release: "Release", doing: str, yes: bool) -> bool:
    """Show what would change, and ask."""
    if not mended.done:
        click.echo("Nothing here can be mended without touching weights.", err=True)
        return False
    for path, content in mended.release.changed.items():
        for line in _difference(path, release.content(path) or b"", content):
            click.echo(line[:LONGEST], err=True)
    return yes or click.confirm(f"Shall hubq {doing}?", err=True)


def _difference(path: str, before: bytes, after: bytes) -> list[str]:
    """Compare two versions of a text, as git does; of JSON, whatever its line breaks."""
    old, new = (_lines(path, content) for content in (before, after))
    if max(len(old), len(new)) > 20_000:
        return [f"{path}: {len(before):,} bytes become {len(after):,}"]
    lines = list(difflib.unified_diff(old, new, path, path, lineterm="", n=1))
    more = [f"... {len(lines) - SHOWN} more lines"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]


def _lines(path: str, content: bytes) -> list[str]:
    if path.endswith(".json") and content:
        return json.dumps(json.loads(content), indent=2, ensure_ascii=False).splitlines()
    return content.decode(errors="replace").splitlines()


def _tell(verdict: "Verdict", made: "tuple[Mended, str] | None") -> None:
    """Print each engine, then each finding with its way out."""
    from hubq.stages.lint.lint import described, loading

    click.echo(verdict.release)
    for engine, answer in loading(verdict):
        click.echo(f"  {engine:12}  {answer}")
    for finding in verdict.findings:
        click.echo(described(finding))
    if made:
        rules = ", ".join(dict.fromkeys(each.rule for each in made[0].done))
        click.echo(f"mended {rules}: {made[1]}")
    count = len(verdict.errors)
    click.echo(f"{count} error{'' if count == 1 else 's'}, {len(verdict.findings)} findings")
