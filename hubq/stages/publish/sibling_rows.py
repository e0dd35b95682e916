"""The rows of other releases on cards that were written before these were published.

A card is renewed from its own repo's records: only its section on related releases changes, the
picture there and `hubq/siblings.json`. It goes by pull request, of which one at a time is open.
A section that isn't as hubq writes it was edited by hand, or by another version, and is left alone.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from hubq.client.client import Client
from hubq.client.error_messages import UNREAD
from hubq.client.repo_files import (
    LocalFile,
    fetch_record,
    files_of,
    head_of,
    without_bars,
)
from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.machine.progress import SILENT, Progress
from hubq.records.adapted_report import AdaptedReport, load_report
from hubq.records.attestation import Statement
from hubq.records.report import Report
from hubq.records.run_folder import (
    ATTESTATION_IN_A_REPO,
    IN_A_REPO,
    REPORT_IN_A_REPO,
    SIBLINGS,
)
from hubq.stages.card.card import CARD, render
from hubq.stages.card.plots import THEMES
from hubq.stages.card.sections.figures import illustrations
from hubq.stages.compare.releases import Release
from hubq.stages.compare.reports import Siblings, in_order, siblings_of
from hubq.stages.publish.row_requests import Renewal, Renewed, close_all, commit, propose

How = Literal["propose", "commit"]
HEADING = "## Which one should I choose?"
SIBLINGS_IN_A_REPO = f"{IN_A_REPO}/{SIBLINGS}"


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
                close_all(release.repo, client)
                return Renewed(repo=release.repo, done="right")
            return commit(renewal, client) if how == "commit" else propose(renewal, client)

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
    held = files_of(client, repo, head)
    files = {path: LocalFile(folder / path) for path in made}
    removed = frozenset(gone & held.keys())
    if ATTESTATION_IN_A_REPO in held:
        stated = Statement.load(fetch_record(client, repo, ATTESTATION_IN_A_REPO, head))
        changed = {path: file.sha256 for path, file in files.items()}
        _refuse_signed(stated, repo)
        attestation = folder / ATTESTATION_IN_A_REPO
        write_atomically(attestation, stated.with_files(changed, removed).written())
        files[ATTESTATION_IN_A_REPO] = LocalFile(attestation)
    return Renewal(repo, head, files, removed, _difference(saved, wanted))


def _refuse_signed(stated: Statement, repo: str) -> None:
    """Leave what somebody signed as it is: another card would need another signature."""
    if stated.signer.how != "none":
        raise UserError(
            f"{repo} is signed, its card too: it was left alone.\nTo renew it, publish it again "
            "from its run folder, with the key"
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
