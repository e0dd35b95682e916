"""What follows a publishing on related releases, and the command that does it later."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import progress
from hubq.cli.options import client_for, example, hub_option, json_option, print_json
from hubq.cli.recipe_stages import Stages, tell
from hubq.records.run_folder import REPORT
from hubq.records.vocabulary import require_account

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hubq.client.client import Client
    from hubq.stages.publish.afterwards import Followed, Rows
    from hubq.stages.publish.publish import Publication
    from hubq.stages.publish.row_requests import Renewed
    from hubq.stages.publish.sibling_rows import How

SAID = {
    "right": "is up to date",
    "proposed": "has a pull request",
    "committed": "was renewed",
    "declined": "was left alone: somebody closed the pull request",
    "left": "was left alone",
}


@click.command(
    epilog=example("hubq siblings your-org --base meta-llama/Meta-Llama-3-8B\n  hubq siblings me")
)
@click.argument("org")
@click.option("--base", metavar="ORG/NAME", help="Only the cards of this base's releases.")
@click.option(
    "--commit", "at_once", is_flag=True, help="Commit to main instead of opening pull requests."
)
@hub_option
@json_option
def siblings(org: str, base: str | None, at_once: bool, hub: str | None, as_json: bool) -> None:
    """Bring the tables of related releases on an organization's cards up to date.

    `hubq publish` does it for the releases of its base; this does it for all, or again. Each card
    is written from its own repo's records. Of a card only its section on related releases changes;
    one that was edited by hand there is left alone. One pull request a card is open at a time, and
    none where the table is right. The exit code is 1 where a card could not be renewed.
    """
    with client_for(hub) as client:
        found = _renewed(require_account(org), base, "commit" if at_once else "propose", client)
    if as_json:
        print_json({"siblings": [each.model_dump(mode="json") for each in found]})
    else:
        click.echo("\n".join(lines(found, all_of_them=True)) or f"{org} has no releases of hubq")
    if any(each.done == "left" for each in found):
        click.get_current_context().exit(1)


def _renewed(org: str, base: str | None, how: "How", client: "Client") -> "list[Renewed]":
    """Renew the cards of each base's releases."""
    from hubq.stages.compare.releases import releases
    from hubq.stages.publish.sibling_rows import renew_rows

    every = releases(org, client, tell, base)
    bases = {each.report.plan.base_model for each in every if each.report} - {None}
    unread = [each for each in every if each.report is None]
    found = []
    for one in sorted(filter(None, bases)):
        family = [each for each in every if each.report and each.report.plan.base_model == one]
        found += renew_rows([*family, *unread], client, how, progress())
    return found


def lines(rows: "Iterable[Renewed]", *, all_of_them: bool = False) -> "Iterable[str]":
    """Say what became of cards; of those that are right only how many, unless all are wanted."""
    for each in rows:
        if all_of_them or each.done != "right":
            more = ": ".join(filter(None, (SAID[each.done], each.where or each.why)))
            yield f"card of {each.repo} {more}"


def follow(
    stage: Stages, done: "Sequence[Publication]", rows: "Rows", *, collection: bool
) -> "Followed":
    """Do what follows a publishing; say what could not be done."""
    from hubq.cli.releasing import released
    from hubq.records.adapted_report import load_report
    from hubq.stages.publish.afterwards import Wishes, follow_up

    reports = [load_report(folder / REPORT) for folder in released(stage)]
    published = {each.repo: (each, report) for each, report in zip(done, reports, strict=True)}
    wishes = Wishes(stage.recipe.publish.collection if collection else False, rows)
    with stage.clock.timing("publish"):
        found = follow_up(published, wishes, stage.client, tell, stage.progress)
    for each in found.undone:
        tell(f"Not done: {each}")
    return found


def told(found: "Followed") -> "Iterable[str]":
    """Say what followed a publishing, for people."""
    if found.collection:
        yield f"among {found.collection}"
    yield from lines(found.rows)
    if right := Counter(each.done for each in found.rows)["right"]:
        yield f"cards of {right} related releases are up to date"
