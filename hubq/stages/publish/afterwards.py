"""What follows a publishing: the release's collection, and its rows on the cards of others.

The release is on main already, so nothing here fails it: what could not be done is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.records.report import Report
from hubq.stages.compare.releases import Release, Tell, releases
from hubq.stages.publish.collection import Wanted, collect
from hubq.stages.publish.publish import Publication
from hubq.stages.publish.row_requests import Renewed
from hubq.stages.publish.sibling_rows import renew_rows

Rows = Literal["propose", "commit", "leave"]


@dataclass(frozen=True)
class Wishes:
    """What is to follow."""

    collection: str | bool | None = None  # a title; None or True: one of hubq's own; False: none
    rows: Rows = "propose"


@dataclass
class Followed:
    """What followed, and what did not."""

    collection: str | None = None  # its address
    rows: list[Renewed] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        rows = [each.model_dump(mode="json") for each in self.rows]
        return {"collection": self.collection, "siblings": rows, "undone": self.undone}


def follow_up(
    done: Mapping[str, tuple[Publication, Report]],
    wishes: Wishes,
    client: Client,
    tell: Tell,
    progress: Progress = SILENT,
) -> Followed:
    """Do what follows the publishing of these releases of one base, by repo.

    Of a base without a name on the Hub nothing follows.
    """
    found = Followed()
    base = next((report.plan.base_model for _, report in done.values()), None)
    if base is None or (wishes.collection is False and wishes.rows == "leave"):
        return found
    org = next(iter(done)).partition("/")[0]
    try:
        listed = releases(org, client, tell, base)
    except UserError as error:
        found.undone.append(f"the other releases of {base} were not looked at: {error}")
        return found
    family = [each for each in listed if each.repo not in done]
    family += [
        Release(repo, publication.commit, publication.private, report)
        for repo, (publication, report) in done.items()
    ]
    if wishes.collection is not False:
        _collect(done, family, wishes, client, found)
    if wishes.rows != "leave":
        found.rows = renew_rows(family, client, wishes.rows, progress, frozenset(done))
    return found


def _collect(
    done: Mapping[str, tuple[Publication, Report]],
    family: Sequence[Release],
    wishes: Wishes,
    client: Client,
    found: Followed,
) -> None:
    """Put the new releases into the collection of their base."""
    title = wishes.collection if isinstance(wishes.collection, str) else None
    for repo, (publication, report) in done.items():
        assert report.plan.base_model is not None, "those without one are done with"
        base = report.plan.base_model.partition("@")[0]
        bits = {
            each.repo: each.report.linear_bits
            for each in family
            if each.report and each.private == publication.private
        }
        wanted = Wanted(base, publication.private, title)
        try:
            found.collection = collect(repo, bits, wanted, client)
        except UserError as error:
            found.undone.append(
                f"{error}\n{repo} is published. To add it to a collection, publish again with a "
                f"token that may write to collections, or use the page {client.url}/{repo}"
            )
            return
