"""The rows of other releases on cards that were written before these were published.

A card is renewed from its own repo's records: only its section on related releases changes, the
picture there and `hubq/siblings.json`. It goes by pull request, of which one at a time is open.
A section that isn't as hubq writes it was edited by hand, or by another version, and is left alone.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from hubq.client.client import Client
from hubq.client.error_messages import UNREAD
from hubq.client.repo_files import (
    MOST_LISTED,
    LocalFile,
    RemoteFile,
    at_most,
    fetch_record,
    files_of,
    head_of,
    without_bars,
)
from hubq.client.retries import failures, status_of
from hubq.client.staging import CLOSED_TO_ALL, let_go
from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.machine.progress import SILENT, Progress
from hubq.records.adapted_report import AdaptedReport, load_report
from hubq.records.record import Record
from hubq.records.report import Report
from hubq.records.run_folder import IN_A_REPO, REPORT_IN_A_REPO, SIBLINGS
from hubq.stages.card.card import CARD, render
from hubq.stages.card.plots import THEMES
from hubq.stages.card.sections.figures import illustrations
from hubq.stages.compare.releases import Release
from hubq.stages.compare.reports import Siblings, in_order, siblings_of

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, Discussion

How = Literal["propose", "commit"]
TITLE = "Bring the table of related releases up to date"
HEADING = "## Which one should I choose?"
SIBLINGS_IN_A_REPO = f"{IN_A_REPO}/{SIBLINGS}"
OPEN = ("open", "draft")


class Renewed(Record):
    """What became of one card."""

    repo: str
    done: Literal["right", "proposed", "committed", "declined", "left"]
    where: str | None = None  # the address of a pull request or a commit
    why: str | None = None  # it was left


@dataclass(frozen=True)
class Renewal:
    """What is to change in a repo, upon a head."""

    repo: str
    head: str
    files: Mapping[str, LocalFile]
    removed: frozenset[str]
    said: str

    @property
    def operations(self) -> "list[CommitOperationAdd | CommitOperationDelete]":
        """The same for huggingface_hub, which takes each of these once."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        return [
            *(CommitOperationAdd(path, file.path) for path, file in self.files.items()),
            *(CommitOperationDelete(path, is_folder=False) for path in sorted(self.removed)),
        ]


def renew_rows(
    family: Sequence[Release],
    client: Client,
    how: How = "propose",
    progress: Progress = SILENT,
    new: frozenset[str] = frozenset(),
) -> list[Renewed]:
    """Bring the cards of a base's releases up to date, but those of `new` ones.

    What can't be renewed says why, and doesn't stop the others. An adapter's card has no table.
    """
    cards = [
        each
        for each in family
        if each.report and not isinstance(each.report, AdaptedReport) and each.repo not in new
    ]
    found = []
    with progress.task("Looking at related cards", len(cards)) as advance, without_bars():
        for each in cards:
            try:
                with client.translate_errors(f"renewing the card of {each.repo}"):
                    found.append(_renewed(each, family, client, how))
            except UserError as error:
                found.append(Renewed(repo=each.repo, done="left", why=str(error)))
            advance(1)
    return found


def _renewed(release: Release, family: Sequence[Release], client: Client, how: How) -> Renewed:
    """Renew one card. Done again after a lost reply, it finds what was done."""

    def renew() -> Renewed:
        head, _ = head_of(client, release.repo)
        with TemporaryDirectory(prefix="hubq-card-") as folder:
            renewal = _renewal(release, head, family, Path(folder), client)
            if renewal is None:
                _close_all(release.repo, client)
                return Renewed(repo=release.repo, done="right")
            return _commit(renewal, client) if how == "commit" else _propose(renewal, client)

    return client.retries.call(renew)


def _renewal(
    release: Release, head: str, family: Sequence[Release], folder: Path, client: Client
) -> Renewal | None:
    """Write what is to change into a folder; None: the table is right.

    Raises UserError for a card whose section isn't the one that hubq made of the records.
    """
    repo = release.repo
    report = load_report(fetch_record(client, repo, REPORT_IN_A_REPO, head))
    saved = Siblings.load(fetch_record(client, repo, SIBLINGS_IN_A_REPO, head))
    wanted = siblings_now(release, report, family, saved)
    before, after = (_section(report, each) for each in (saved, wanted))
    if before == after:
        return None
    card = fetch_record(client, repo, CARD, head).read_bytes().decode(errors="replace")
    if card.count(before) != 1:
        raise UserError(
            "its section on related releases was edited by hand, or written by another version of "
            f"hubq: it was left alone.\nTo renew it, publish {repo} again from its run folder"
        )
    made = _pictures(report, wanted)
    made |= {
        CARD: card.replace(before, after).encode(),
        SIBLINGS_IN_A_REPO: (wanted.model_dump_json(indent=2) + "\n").encode(),
    }
    for path, content in made.items():
        write_atomically(folder / path, content)
    gone = _picture_paths(report, saved) - made.keys()
    held = files_of(client, repo, head) if gone else {}
    return Renewal(
        repo,
        head,
        {path: LocalFile(folder / path) for path in made},
        frozenset(gone & held.keys()),
        _difference(saved, wanted),
    )


def siblings_now(
    release: Release, report: Report, family: Sequence[Release], saved: Siblings
) -> Siblings:
    """Return the siblings of a release as they are now; those that can't be read stay as they were.

    So do those of other organizations. A private one is not shown on a public card.
    """
    others = [
        each.report
        for each in family
        if each.report and each.repo != release.repo and (release.private or not each.private)
    ]
    found = siblings_of(report, others).entries
    names = {each.name for each in found}
    unread = {each.repo for each in family if each.report is None}
    org = f"{release.repo.partition('/')[0]}/"
    kept = (
        each
        for each in saved.entries
        if each.name not in names and (each.name in unread or not each.name.startswith(org))
    )
    return Siblings(entries=in_order([*found, *kept]))


def _section(report: Report, siblings: Siblings) -> str:
    """Write a card's section on related releases, to the next heading."""
    from jinja2 import TemplateError

    try:
        card = render(report, siblings)
    except (TemplateError, ValueError, *UNREAD) as error:
        raise UserError(f"no card can be written of its records ({error!s:.200})") from error
    begin = card.index(HEADING)
    end = card.find("\n## ", begin)
    return card[begin:] if end < 0 else card[begin:end]


def _pictures(report: Report, siblings: Siblings) -> dict[str, bytes]:
    """Draw the picture of the section, by its paths; none where there is too little to compare."""
    found = illustrations(report, siblings).get("bits")
    drawn = {found.path(theme): found.draw(theme) for theme in THEMES} if found else {}
    return {path: content for path, content in drawn.items() if content is not None}


def _picture_paths(report: Report, siblings: Siblings) -> set[str]:
    found = illustrations(report, siblings).get("bits")
    return {found.path(theme) for theme in THEMES} if found else set()


def _difference(saved: Siblings, wanted: Siblings) -> str:
    """Say which rows are new, changed or gone."""
    before, after = ({each.name: each for each in one.entries} for one in (saved, wanted))
    lines = [
        *(f"- new: {name}" for name in after if name not in before),
        *(f"- changed: {name}" for name in after if name in before and after[name] != before[name]),
        *(f"- gone: {name}" for name in before if name not in after),
    ]
    return "\n".join(
        ["Only the card's section on related releases changes. By `hubq siblings`:", *lines]
    )


def _commit(renewal: Renewal, client: Client) -> Renewed:
    """Commit to main, upon the head that was looked at."""
    made = client.api().create_commit(
        renewal.repo,
        renewal.operations,
        commit_message=TITLE,
        commit_description=renewal.said,
        parent_commit=renewal.head,
    )
    _close_all(renewal.repo, client)
    return Renewed(repo=renewal.repo, done="committed", where=str(made.commit_url))


def _propose(renewal: Renewal, client: Client) -> Renewed:
    """Open a pull request, or bring the open one up to date; don't repeat what was declined."""
    asked = list(_requests(renewal.repo, client))
    opened = [each for each in asked if each.status in OPEN]
    if asked and asked[0].status == "closed" and _standing(asked[0], renewal, client) == "same":
        where = _address(asked[0], client)
        return Renewed(repo=renewal.repo, done="declined", where=where)
    for each in opened:
        standing = _standing(each, renewal, client)
        if standing == "behind":
            _push(each, renewal, client)
        if standing != "other":
            _close(renewal.repo, [one for one in opened if one is not each], client)
            where = _address(each, client)
            return Renewed(repo=renewal.repo, done="proposed", where=where)
    made = client.api().create_commit(
        renewal.repo,
        renewal.operations,
        commit_message=TITLE,
        commit_description=renewal.said,
        parent_commit=renewal.head,
        create_pr=True,
    )
    _close(renewal.repo, opened, client)
    return Renewed(repo=renewal.repo, done="proposed", where=str(made.pr_url))


def _requests(repo: str, client: Client) -> "Iterator[Discussion]":
    """Yield the pull requests of this kind, the newest first; whose they are doesn't matter.

    What they hold is compared before they count for anything.
    """
    try:
        every = at_most(
            MOST_LISTED, client.api().get_repo_discussions(repo, discussion_type="pull_request")
        )
    except failures() as error:
        if status_of(error) not in CLOSED_TO_ALL:
            raise
        return
    yield from sorted(
        (each for each in every if each.title == TITLE), key=lambda each: each.num, reverse=True
    )


def _address(request: "Discussion", client: Client) -> str:
    return f"{client.url}/{request.repo_id}/discussions/{request.num}"


def _standing(
    request: "Discussion", renewal: Renewal, client: Client
) -> Literal["same", "behind", "other"]:
    """Tell whether a request proposes just this, or can be brought to it by one more commit.

    It can where it was made upon the same head, and touches nothing but these files.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    repo, revision = renewal.repo, f"refs/pr/{request.num}"
    try:
        there = files_of(client, repo, revision)
    except RevisionNotFoundError:  # hubq closed it, and let go of it
        return "other"
    main, ours = files_of(client, repo, renewal.head), renewal.files.keys() | renewal.removed
    if _without(there, ours) != _without(main, ours):
        return "other"
    held = {path: there.get(path) for path in renewal.files}
    same = all(each and renewal.files[path].equals(each) for path, each in held.items())
    if same and not renewal.removed & there.keys():
        return "same"
    history = client.api().list_repo_commits(repo, revision=revision)
    return "behind" if renewal.head in {each.commit_id for each in history} else "other"


def _without(files: Mapping[str, RemoteFile], left: Set[str]) -> dict[str, RemoteFile]:
    return {path: file for path, file in files.items() if path not in left}


def _push(request: "Discussion", renewal: Renewal, client: Client) -> None:
    """Bring an open request up to date by a commit to it."""
    revision = f"refs/pr/{request.num}"
    commit, _ = head_of(client, renewal.repo, revision)
    still = renewal.removed & files_of(client, renewal.repo, commit).keys()
    client.api().create_commit(
        renewal.repo,
        replace(renewal, removed=still).operations,
        commit_message=TITLE,
        commit_description=renewal.said,
        revision=revision,
        parent_commit=commit,
    )


def _close_all(repo: str, client: Client) -> None:
    """Close what waits though the card is right by now."""
    _close(repo, [each for each in _requests(repo, client) if each.status in OPEN], client)


def _close(repo: str, requests: "Sequence[Discussion]", client: Client) -> None:
    """Close pull requests, and let go of what they propose, which keeps storage taken."""
    for each in requests:
        client.api().change_discussion_status(repo, each.num, "closed", comment="Out of date.")
        let_go(repo, each.num, client)
