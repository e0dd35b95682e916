"""The command that tells what changed since releases were published."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import progress
from hubq.cli.options import FILE, client_for, example, hub_option, json_option, print_json
from hubq.records.vocabulary import require_account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hubq.stages.watch.findings import Watch

CHANGED, FAILED = 3, 1  # exit codes


@click.command(epilog=example("hubq watch your-org\n  hubq watch me --json --since last.json"))
@click.argument("org")
@click.option(
    "--since",
    type=FILE,
    help="What an earlier --json printed: tell only what is new since then. Where no such file is, "
    "all is new.",
)
@hub_option
@json_option
def watch(org: str, since: Path | None, hub: str | None, as_json: bool) -> None:
    """Tell what changed since an organization's releases were published.

    Their bases (weights, tokenizers, names, gates, licenses), what today's rules of `hubq lint`
    find in them, and files on their main that aren't those that were measured. Nothing is written,
    and no weights are read. The exit code is 3 where something is to be done, else 1 where a
    release could not be looked at, else 0.
    """
    from hubq.stages.watch.findings import Watch
    from hubq.stages.watch.watch import watch as look

    before = Watch.load(since) if since and since.exists() else None
    with client_for(hub) as client:
        found = look(require_account(org), client, progress())
    new = found if before is None else found.since(before)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        click.echo("\n".join(_lines(new)))
    code = CHANGED if new.changed else FAILED if new.failed else 0
    click.get_current_context().exit(code)


def _lines(found: "Watch") -> "Iterator[str]":
    """Print each release of which there is something to tell, then the sum."""
    for each in found.releases:
        if each.changes or each.failed:
            yield each.repo
        for change in each.changes:
            yield f"  {change.kind:8} {change.what}"
            yield f"           {change.way_out}"
        if each.failed:
            yield f"  could not be looked at: {each.failed}"
    yield (
        f"{len(found.releases)} releases: {len(found.changed)} to be looked after, "
        f"{len(found.failed)} could not be looked at"
    )
