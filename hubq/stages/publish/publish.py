"""The only network write: one commit with all files on main, after proof of what the Hub holds.

A release is what was measured: every file is hashed against the checkpoint before anything is
sent, and against the Hub's own hashes after. It waits in a pull request until it was downloaded
from there and loaded; main never holds what was not looked at. Publishing again what the Hub holds
already makes no commit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hubq import __version__
from hubq.client.client import Client
from hubq.client.commit import ATTRIBUTES, Change, commit, compare
from hubq.client.repo_files import LocalFile, differences, files_of, gate_of, head_of, history_of
from hubq.client.storage import require_room
from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.records.record import Record
from hubq.records.report import Report
from hubq.records.run_folder import PUBLICATION, REPORT_IN_A_REPO
from hubq.stages.evaluate.requirements import refuse_unmet
from hubq.stages.lint.gather import local_release
from hubq.stages.lint.lint import described, refuse_errors
from hubq.stages.plan.conditions import require_gate_now
from hubq.stages.publish.attestation import attested
from hubq.stages.publish.downloaded import Downloader
from hubq.stages.publish.release import assemble, refuse_secrets
from hubq.stages.publish.row_requests import only_rows_since
from hubq.stages.publish.signing import signing_of_environment
from hubq.stages.publish.staged import Put, clear_away, publish_staged
from hubq.stages.publish.versions import keep_replaced

FOUNDING = frozenset({ATTRIBUTES, "README.md"})  # what a repo holds that nobody filled yet


DESTINATION = "destination.json"


class Destination(Record):
    """Where a run will be published, and what was there when it began."""

    endpoint: str
    repo: str
    head: str | None  # None: no repo


class Publication(Record):
    """What the Hub holds, verified file by file."""

    endpoint: str
    repo: str
    commit: str
    url: str
    private: bool
    gated: Literal["auto", "manual"] | None = None  # whether downloaders have to ask
    files: dict[str, str]  # path -> sha256, compared with the Hub's own
    seen: tuple[str, ...] = ()  # of what was downloaded again before it came on main
    warnings: tuple[str, ...] = ()  # of lint


def remember_destination(repo: str, run: Path, client: Client) -> None:
    """Save what a repo holds as a run begins: what others publish there later is not replaced."""
    from huggingface_hub.errors import RepositoryNotFoundError

    place = run / DESTINATION
    known = Destination.load(place) if place.is_file() else None
    if (run / PUBLICATION).is_file() or (
        known is not None and (known.endpoint, known.repo) == (client.url, repo)
    ):
        return
    with client.translate_errors(f"looking at {repo}"):
        try:
            head: str | None = head_of(client, repo)[0]
        except RepositoryNotFoundError:
            head = None
    Destination(endpoint=client.url, repo=repo, head=head).save(place)


def publish(
    report: Report,
    run: Path,
    client: Client,
    progress: Progress = SILENT,
    *,
    load: bool = True,
) -> Publication:
    """Create the repo if need be, publish once it was looked at, save run/publication.json.

    It is downloaded from where it waits on the Hub, and loaded unless `load` is false. Raises
    UserError, before anything is sent, for a result that misses what its recipe requires,
    for files that aren't those that were measured, for secrets in them, for what lint finds errors
    in, for a repo that hubq did not make, that was changed since, or that holds another release
    without a record that it is to be replaced (`versions.prepare`), for a token that may not write
    there, and for a base whose gate an open copy would go around; and, with main as it was, for
    what does not arrive or load as it is here.
    """
    refuse_unmet(report)
    with Downloader(report, run, client, progress, load=load) as downloader:
        if not (run / PUBLICATION).is_file():
            downloader.prepare()
        signing = signing_of_environment()
        files = attested(assemble(report, run, progress, signing.signer), run, signing)
        warnings = _refuse_unfit(report, files, client)
        client.may_publish(report.plan.repo)
        return release(report, files, downloader, warnings)


def _refuse_unfit(
    report: Report, files: Mapping[str, LocalFile], client: Client
) -> tuple[str, ...]:
    """Refuse files with secrets or with what lint refuses, and an open copy of a closed base.

    Returns what lint warns of.
    """
    repo = report.plan.repo
    for token in client.known_tokens:
        refuse_secrets(files, token)
    paths = {path: file.path for path, file in files.items()}
    verdict = refuse_errors(local_release(repo, repo, paths))
    require_gate_now(report.plan, client)
    return tuple(described(each) for each in verdict.findings if each.severity == "warning")


def release(
    report: Report,
    files: Mapping[str, LocalFile],
    downloader: Downloader,
    warnings: tuple[str, ...] = (),
) -> Publication:
    """Publish files as a report's release, save the publication, leave nothing that waits."""
    repo, run, client = report.plan.repo, downloader.run, downloader.client
    with client.translate_errors(f"publishing {repo}"):
        publication = _published(report, files, downloader)
    publication = publication.model_copy(update={"warnings": warnings})
    publication.save(run / PUBLICATION)
    (run / DESTINATION).unlink(missing_ok=True)
    with client.translate_errors(f"{repo} is published; closing its pull request"):
        clear_away(run, f"Published as {publication.commit}.", client)
    return publication


def _published(
    report: Report, files: Mapping[str, LocalFile], downloader: Downloader
) -> Publication:
    """Publish these files, unless the Hub holds them, and verify what it holds."""
    repo, run, client = report.plan.repo, downloader.run, downloader.client
    head, private = _open(report, client)
    title = f"Publish {report.plan.recipe['name']} with hubq {__version__}"
    change = compare(repo, head, files, title, client)
    _refuse_foreign(change, client)
    _refuse_edited(change, run, client)
    _refuse_overtaken(change, run, client)
    require_room(change.added_bytes, repo, client, private=private)
    keep_replaced(change, run, client)
    gated = _close_gate(report, client)

    def look(waiting: str) -> tuple[str, ...]:
        verify(repo, waiting, files, client)
        return downloader.look(waiting, is_open=not private and gated is None)

    put = Put(head, _seen(head, run), is_looked_at=False)
    if change.pending:
        put = publish_staged(change, run, look, client, downloader.progress)
    made = put.commit
    if not put.is_looked_at:
        made = _mended(change, made, downloader)
        verify(repo, made, files, client)
    return Publication(
        endpoint=client.url,
        repo=repo,
        commit=made,
        url=f"{client.url}/{repo}",
        private=private,
        gated=gated,
        files={path: file.sha256 for path, file in sorted(files.items())},
        seen=put.seen,
    )


def _mended(change: Change, made: str, downloader: Downloader) -> str:
    """Send again what main's commit holds with other bytes; return the commit that main is at.

    Only where the Hub took no push: a commit carries small files itself. Bringing main back to
    what it held would send small files too, and publish nothing.
    """
    client = downloader.client
    title = f"Send again what arrived wrong in {made[:8]}"
    return commit(
        compare(change.repo, made, change.files, title, client), client, downloader.progress
    )


def _seen(head: str, run: Path) -> tuple[str, ...]:
    """Return what was seen of the commit that is there already, if this run put it there."""
    record = run / PUBLICATION
    last = Publication.load(record) if record.is_file() else None
    return last.seen if last and last.commit == head else ()


def _open(report: Report, client: Client) -> tuple[str, bool]:
    """Make sure that the repo exists; return its head and whether it is private."""
    from huggingface_hub.errors import RepositoryNotFoundError

    repo, private = report.plan.repo, bool(report.plan.recipe["publish"]["private"])
    try:
        head, is_private = head_of(client, repo)
    except RepositoryNotFoundError:
        client.retries.call(lambda: client.api().create_repo(repo, private=private, exist_ok=True))
        head, is_private = head_of(client, repo)  # somebody may have been faster
    if is_private != private:
        is_now, is_to_be = ("private", "public") if is_private else ("public", "private")
        raise UserError(
            f"{repo} is {is_now} on the Hub, and the recipe wants it {is_to_be}.\n"
            f"Set publish.private: {str(is_private).lower()}, or change the repo at "
            f"{client.url}/{repo}/settings; nothing was uploaded"
        )
    return head, is_private


def _close_gate(report: Report, client: Client) -> Literal["auto", "manual"] | None:
    """Give the repo the gate that the recipe wants, before it holds anything; return its gate.

    A gate that somebody set by hand stays where the recipe says nothing.
    """
    repo = report.plan.repo
    wanted: Literal["auto", "manual"] | None = report.plan.recipe["publish"].get("gated")
    found = gate_of(client, repo)
    if wanted is None or found == wanted:
        return found
    client.retries.call(lambda: client.api().update_repo_settings(repo, gated=wanted))
    if gate_of(client, repo) != wanted:
        raise UserError(
            f"{client.url} did not take publish.gated: {wanted} for {repo}; nothing was uploaded.\n"
            f"Set it at {client.url}/{repo}/settings, then publish again"
        )
    return wanted


def _refuse_foreign(change: Change, client: Client) -> None:
    """Refuse a repo that somebody filled without hubq."""
    if change.holds <= FOUNDING or REPORT_IN_A_REPO in change.holds or not change.pending:
        return
    raise UserError(
        f"{change.repo} holds files that hubq did not publish, such as "
        f"{', '.join(sorted(change.holds - FOUNDING)[:3])}.\n"
        f"Set publish.name to a new name, or delete the repo at {client.url}/{change.repo}/settings"
        "; nothing was uploaded"
    )


def _refuse_edited(change: Change, run: Path, client: Client) -> None:
    """Refuse to overwrite what others changed since this run was published."""
    record = run / PUBLICATION
    if not change.pending or not record.exists() or change.holds <= FOUNDING:
        return
    last = Publication.load(record)
    if last.commit == change.head or not _is_same_repo(last, change, client):
        return
    if only_rows_since(last.commit, change.repo, client):
        return
    paths = ", ".join(sorted({*change.changed, *change.obsolete})[:3])
    raise UserError(
        f"{change.repo} changed on the Hub since this run was published ({paths}).\n"
        f"Look at {client.url}/{change.repo}/commits/main; to publish over it all the same, "
        f"delete {record}"
    )


def _refuse_overtaken(change: Change, run: Path, client: Client) -> None:
    """Refuse to replace what another run published while this one was at work."""
    record = run / DESTINATION
    if not change.pending or not record.is_file() or change.holds <= FOUNDING:
        return
    began = Destination.load(record)
    if (began.endpoint, began.repo) != (client.url, change.repo) or began.head == change.head:
        return
    raise UserError(
        f"{change.repo} was published by another run since this one began.\n"
        f"Look at {client.url}/{change.repo}/commits/main; to publish over it all the same, "
        f"delete {record}. Nothing was uploaded"
    )


def _is_same_repo(last: Publication, change: Change, client: Client) -> bool:
    """Tell whether a run was published where it goes now.

    A squash takes the commit out of the history, and a local Hub gets another address each time.
    """
    is_same_address = (last.endpoint, last.repo) == (client.url, change.repo)
    return is_same_address or last.commit in history_of(client, change.repo)


def verify(repo: str, made: str, files: Mapping[str, LocalFile], client: Client) -> None:
    """Compare the Hub's own hash of every file with ours; raise UserError where they differ."""
    remote = files_of(client, repo, made)
    wrong = differences(files, remote) + sorted(remote.keys() - files.keys() - {ATTRIBUTES})
    if wrong:
        raise UserError(
            f"commit {made[:8]} of {repo} does not hold what was published: {', '.join(wrong)}.\n"
            "Don't use it; publish again, and if that ends the same way, check this machine's disk"
        )
