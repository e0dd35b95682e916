"""A release over an older one: asked for, tagged, and told what it changes.

`--update` is remembered in the run folder, with the commit that it replaces. So a publishing that
was interrupted goes on without asking again, and one that finds something else there asks anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hubq.client.client import Client
from hubq.client.commit import ATTRIBUTES, Change
from hubq.client.pull import is_read
from hubq.client.repo_files import (
    LocalFile,
    RemoteFile,
    commits_of,
    fetch_record,
    files_of,
    head_of,
    without_bars,
)
from hubq.errors import UserError
from hubq.records.adapted_report import load_report
from hubq.records.number_format import number
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.records.run_folder import CHANGELOG, IN_A_REPO, PAPERS, REPORT_IN_A_REPO, VERSIONS
from hubq.records.versions import Version, Versions
from hubq.stages.publish.changelog import changelog, got_worse
from hubq.stages.publish.changes import numbers, plain, settings, version_of
from hubq.stages.publish.row_requests import TITLE

VERSIONS_IN_A_REPO = f"{IN_A_REPO}/{VERSIONS}"
LONGEST_HISTORY = 5_000_000  # bytes
PUBLISHED = ("Publish ", "Send again ")  # begin the titles of our commits of a release
SHOWN = 3  # titles of others' commits
MAKING = ("model", "method", "calibration", "format", "embeddings", "adapt")  # of a recipe
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Standing:
    """A release of hubq on main."""

    repo: str
    head: str
    date: str
    files: Mapping[str, RemoteFile]
    report: Report | None  # None: this version of hubq can't read it
    history: Versions | None  # None: it is the first, or its record is none of ours
    edits: tuple[str, ...]  # titles of the commits since, newest first

    @property
    def version(self) -> Version:
        """Describe it as the newest of its history, or as the first."""
        if self.history is not None:
            return self.history.last
        if self.report is not None:
            return version_of(self.report, "v1", self.date)
        unknown = dict.fromkeys(("recipe", "method", "form", "base"), UNKNOWN)
        return Version.model_validate({"name": "v1", "date": self.date, **unknown})

    def __str__(self) -> str:
        """Name it as people do."""
        version = self.version
        bits = "" if version.linear_bits is None else f" at {number(version.linear_bits)} bits"
        return (
            f"recipe {version.recipe}: {version.method}{bits} in {version.form}, {self.date}, "
            f"commit {self.head[:8]}"
        )


def standing(repo: str, client: Client) -> Standing | None:
    """Return the release that hubq made and main holds; None: there is none."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with client.translate_errors(f"looking at what {repo} holds"), without_bars():
        try:
            head, _ = head_of(client, repo)
        except RepositoryNotFoundError:
            return None
        files = files_of(client, repo, head)
        if REPORT_IN_A_REPO not in files:
            return None
        commits = commits_of(client, repo)
        date = commits[0].created_at.astimezone(UTC).date().isoformat()
        return Standing(
            repo,
            head,
            date,
            files,
            report=_report(repo, head, client),
            history=_history(repo, head, files, client),
            edits=tuple(_edits(each.title for each in commits)),
        )


def _report(repo: str, head: str, client: Client) -> Report | None:
    path = fetch_record(client, repo, REPORT_IN_A_REPO, head)
    try:
        return load_report(path)
    except UserError:
        return None  # of another version, or damaged: what follows says that it can't be read


def _history(
    repo: str, head: str, files: Mapping[str, RemoteFile], client: Client
) -> Versions | None:
    """Read the versions of a repo, if they are such: anybody who may write there may write them."""
    remote = files.get(VERSIONS_IN_A_REPO)
    if remote is None or remote.size > LONGEST_HISTORY:
        return None
    path = fetch_record(client, repo, VERSIONS_IN_A_REPO, head, most=remote.size)
    try:
        return Versions.load(path)
    except UserError:
        return None


def _edits(titles: Iterator[str]) -> Iterator[str]:
    """Yield the titles of what came after the last commit of ours."""
    for title in titles:
        if title.startswith(TITLE):
            continue
        if title.startswith(PUBLISHED):
            return
        yield plain(title[:80])


def refuse_to_replace(planned: Plan, repo: str, run: Path, client: Client) -> None:
    """Raise UserError, before hours are spent, where a repo holds another recipe's release.

    The same recipe may well make the same bytes again, which replaces nothing.
    """
    there = standing(repo, client)
    if there is None or _is_asked_for(run, there.head):
        return
    if there.report is None or _making(there.report.plan) != _making(planned):
        raise _refusal(there, client)


def mention(planned: Plan, client: Client) -> str | None:
    """Say of a plan's repo that it holds a release already; None: it holds none."""
    there = standing(planned.repo, client)
    return f"it holds a release ({there}); another takes --update" if there else None


def _making(plan: Plan) -> dict[str, Any]:
    """Return what of a plan makes the bytes."""
    return {key: plan.recipe.get(key) for key in MAKING} | {"source": plan.source}


def prepare(report: Report, run: Path, client: Client, *, update: bool) -> list[str]:
    """Record what a release will replace, if it replaces one; return what to warn of.

    Raises UserError where main holds another release and `update` is neither asked for now nor was
    before, of this run and of what main holds.
    """
    repo = report.plan.repo
    there = standing(repo, client)
    if there is None:
        forget(run)
        return []
    if not list(_other_files(report, run, there.files)):
        _adopt(there, run)
        return []
    asked = _is_asked_for(run, there.head)
    if not update and not asked:
        raise _refusal(there, client)
    versions = _next(report, there, _tags(repo, client), asked)
    versions.save(run / VERSIONS)
    return list(_warnings(there, versions))


def forget(run: Path) -> None:
    """Remove what says that a run's release is not the first."""
    for name in (VERSIONS, VERSIONS_IN_A_REPO, CHANGELOG):
        (run / name).unlink(missing_ok=True)


def _adopt(there: Standing, run: Path) -> None:
    """Take over the history of the same release, which may come from another machine."""
    if there.history is None:
        forget(run)
    else:
        there.history.save(run / VERSIONS)


def _saved(run: Path) -> Versions | None:
    """Return the versions that a run recorded."""
    return Versions.load(run / VERSIONS) if (run / VERSIONS).is_file() else None


def _is_asked_for(run: Path, head: str) -> Versions | None:
    """Return what was recorded when --update was given, if it was given for this commit."""
    saved = _saved(run)
    return saved if saved and saved.replaced.commit == head else None


def _other_files(report: Report, run: Path, remote: Mapping[str, RemoteFile]) -> Iterator[str]:
    """Yield the files that a loader reads, as far as main holds others than this release has.

    An adapter's config names the commit of what it is loaded on, so it may differ.
    """
    own = {path: sha256 for path, sha256 in report.files.items() if _counts(path)}
    for path, sha256 in own.items():
        held = remote.get(path)
        if held is None:
            yield path
        elif held.sha256 is not None:
            if held.sha256 != sha256:
                yield path
        elif not LocalFile(run / report.folder / path).equals(held):
            yield path
    yield from (path for path in remote if _counts(path) and path not in own)


def _counts(path: str) -> bool:
    """Tell whether another content of a file makes another model."""
    return is_read(path) and path not in PAPERS and path != ATTRIBUTES


def _next(
    report: Report, there: Standing, tags: Mapping[str, str], asked: Versions | None
) -> Versions:
    """Put this release after those that were."""
    old = there.version
    older = there.history.entries[:-1] if there.history else ()
    old = old.model_copy(
        update={"commit": there.head, "tag": _free_tag(old.name, there.head, tags)}
    )
    today = datetime.now(UTC).date().isoformat()
    new = version_of(report, f"v{int(old.name[1:]) + 1}", asked.last.date if asked else today)
    before = there.report
    changed = {
        "settings": settings(before, report) if before else (),
        "numbers": numbers(before, report),
    }
    return Versions(entries=(*older, old, new.model_copy(update=changed)))


def _free_tag(name: str, commit: str, tags: Mapping[str, str]) -> str:
    """Return a version's name, or one more of it where somebody gave it to another commit."""
    return name if tags.get(name, commit) == commit else f"{name}-{commit[:8]}"


def _warnings(there: Standing, versions: Versions) -> Iterator[str]:
    """Yield what got worse, what is lost from view, and what could not be read."""
    old, new = versions.replaced, versions.last
    for each in new.numbers:
        if each.verdict == "worse":
            yield f"{there.repo} {new.name} is worse than {old.name} in {got_worse(each)}"
    if there.edits:
        titles = "; ".join(there.edits[:SHOWN])
        yield (
            f"{there.repo} was changed since {old.name} was published ({titles}): the tag "
            f"{old.tag} keeps that, and {new.name} replaces it"
        )
    if there.report is None:
        yield f"{REPORT_IN_A_REPO} of {there.repo} can't be read, so nothing is compared with it"
    if there.history is None and VERSIONS_IN_A_REPO in there.files:
        yield f"{VERSIONS_IN_A_REPO} of {there.repo} is not hubq's, so its history begins anew"


def _refusal(there: Standing, client: Client) -> UserError:
    return UserError(
        f"{there.repo} holds another release of hubq ({there}).\n"
        f"To replace it, add --update: the old one stays under the tag {there.version.name}, and "
        f"CHANGELOG.md says what changed ({client.url}/{there.repo}). Or set publish.name to "
        "another name. Nothing was uploaded"
    )


def versioned(run: Path) -> dict[str, bytes]:
    """Return what a repo says of its versions, by path; nothing where there is only one."""
    versions = _saved(run)
    if versions is None:
        return {}
    record = (versions.model_dump_json(indent=2) + "\n").encode()
    return {VERSIONS_IN_A_REPO: record, CHANGELOG: changelog(versions).encode()}


def keep_replaced(change: Change, run: Path, client: Client) -> None:
    """Tag the release that a change replaces, which must have been asked for."""
    if REPORT_IN_A_REPO not in change.holds:
        return
    if not any(_counts(path) for path in (*change.changed, *change.obsolete)):
        return
    saved = _is_asked_for(run, change.head)
    if saved is None:
        if there := standing(change.repo, client):
            raise _refusal(there, client)
        raise UserError(f"{change.repo} changed during publishing; nothing was uploaded")
    tag = saved.replaced.tag
    assert tag is not None, "what is replaced has a tag"
    _tag(change, tag, client)


def _tag(change: Change, tag: str, client: Client) -> None:
    """Give the head a tag, once; never move one."""
    repo, head = change.repo, change.head
    if tag not in _tags(repo, client):
        client.retries.call(
            lambda: client.api().create_tag(repo, tag=tag, revision=head, exist_ok=True)
        )
    if (found := _tags(repo, client).get(tag)) != head:
        raise UserError(
            f"the tag {tag} of {repo} is at {(found or 'no commit')[:9]}, and should keep "
            f"{head[:8]}, which this release replaces.\nPublish again; nothing was overwritten"
        )


def _tags(repo: str, client: Client) -> Mapping[str, str]:
    """Return the tags of a repo with their commits."""
    refs = client.retries.call(lambda: client.api().list_repo_refs(repo))
    return {each.name: each.target_commit for each in refs.tags}
