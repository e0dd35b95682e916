"""Look at an organization's releases: what changed since each was published."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hubq import __version__
from hubq.client.client import Client
from hubq.client.commit import ATTRIBUTES
from hubq.client.repo_files import RemoteFile, fetch_listed, files_of, without_bars
from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.machine.progress import SILENT, Progress
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.records.run_folder import IN_A_REPO, PAPERS
from hubq.stages.compare.releases import AT_ONCE, Release, releases
from hubq.stages.lint.findings import Finding
from hubq.stages.lint.gather import repo_release
from hubq.stages.lint.lint import lint
from hubq.stages.watch.base import Base, base_of, look, terms
from hubq.stages.watch.findings import Change, Watch, Watched

SHOWN = 5  # files
OWN_TEXTS = frozenset({*PAPERS, ATTRIBUTES})  # what isn't in a report
Bases = dict[tuple[str, str | None], Base | UserError]


def watch(org: str, client: Client, progress: Progress = SILENT) -> Watch:
    """Look at all releases of an organization; one that can't be looked at says why.

    Raises UserError where the organization's releases can't be listed.
    """
    found = releases(org, client, lambda _: None)  # each says itself why it can't be read
    plans = {each.repo: each.report.plan for each in found if each.report}
    wanted = sorted({base for plan in plans.values() if (base := base_of(plan))}, key=str)
    with (
        progress.task("Looking at releases", len(wanted) + len(found)) as advance,
        without_bars(),
        ThreadPoolExecutor(AT_ONCE) as executor,
    ):
        bases: Bases = {}
        for base, seen in zip(wanted, executor.map(partial(_base, client), wanted), strict=True):
            bases[base] = seen
            advance(1)
        watched = []
        for one in executor.map(partial(_watched, client, bases), found):
            watched.append(one)
            advance(1)
    return Watch(hub=client.url, org=org, hubq=__version__, releases=tuple(watched))


def _base(client: Client, base: tuple[str, str | None]) -> Base | UserError:
    """Look at a base; return why that can't be."""
    try:
        return look(*base, client)
    except UserError as error:
        return error


def _watched(client: Client, bases: Bases, release: Release) -> Watched:
    """Look at one release; what fails is told beside what was found before."""
    if release.report is None:
        place = {"repo": release.repo, "commit": release.commit}
        return Watched(**place, base=None, failed=release.unread)
    plan, changes, failed = release.report.plan, list[Change](), list[str]()
    base = base_of(plan)
    try:
        changes += [] if base is None else _of_base(plan, base[0], bases[base])
    except UserError as error:
        failed.append(str(error))
    for part in (_files, _rules):
        try:
            with client.translate_errors(f"looking at {release.repo}"):
                changes += part(release, release.report, client)
        except UserError as error:
            failed.append(str(error))
    return Watched(
        repo=release.repo,
        commit=release.commit,
        base=None if base is None else "@".join(filter(None, base)),
        changes=tuple(changes),
        failed="\n".join(failed) or None,
    )


def _of_base(plan: Plan, name: str, base: Base | UserError) -> Iterator[Change]:
    if isinstance(base, UserError):
        raise base
    yield from base.changes
    yield from terms(plan, name, base)


def _files(release: Release, report: Report, client: Client) -> Iterator[Change]:
    """Say which files of main are not those that were measured."""
    there = files_of(client, release.repo, release.commit)
    missing = [path for path in report.files if path not in there]
    other = [
        path
        for path, digest in report.files.items()
        if path in there and _sha256(release, path, there[path], client) != digest
    ]
    added = [
        path
        for path in there
        if path not in report.files
        and path not in OWN_TEXTS
        and not path.startswith(f"{IN_A_REPO}/")
    ]
    for words, paths in (("lacks", missing), ("changed", other), ("holds besides", added)):
        if paths:
            shown = ", ".join(sorted(paths)[:SHOWN])
            more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
            yield Change(
                kind="files",
                what=f"main {words} {shown}{more}: not what hubq published",
                way_out="Look at the repo's commits; publish again to bring back what was measured",
            )


def _sha256(release: Release, path: str, listed: RemoteFile, client: Client) -> str:
    """Return a file's hash as the Hub knows it; a small one is read."""
    if listed.sha256 is not None:
        return listed.sha256
    return sha256_of(fetch_listed(client, release.repo, path, release.commit))


def _rules(release: Release, report: Report, client: Client) -> Iterator[Change]:
    """Apply today's rules to a release; warnings that its own version told are old."""
    same = report.versions.get("hubq") == __version__
    for each in lint(repo_release(f"{release.repo}@{release.commit}", client)).findings:
        if each.severity == "error" or (each.severity == "warning" and not same):
            yield _found(each)


def _found(finding: Finding) -> Change:
    stops = f", which stops {', '.join(finding.engines)}" if finding.engines else ""
    return Change(
        kind="rules",
        what=f"{finding.severity} {finding.rule}, {finding.where}: {finding.what}{stops}",
        way_out=f"{finding.way_out} (known from {finding.source})",
    )
