"""Download a repo and check every byte: the Hub's own client looks at sizes only.

The files go where `hf download` and `from_pretrained` look for them (huggingface_hub's cache), so
that what was checked is what is loaded; or into a folder, where one is named. A download that was
cut off goes on where it stopped.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hubq.client.client import Client
from hubq.client.repo_files import LocalFile, RemoteFile, bar, files_of, head_of, without_bars
from hubq.errors import UserError
from hubq.machine.files import require_space
from hubq.machine.progress import SILENT, Advance, Progress
from hubq.records.run_folder import REPORT_IN_A_REPO
from hubq.records.vocabulary import address

AT_ONCE = 4  # downloads
# Suffixes of files that no loader reads; without one there are LICENSE, .gitattributes, ...
UNREAD = frozenset(
    {"", ".md", ".yaml", ".sig", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp"}
)


@dataclass(frozen=True)
class Snapshot:
    """A repo at one commit, and where its files go; folder None is huggingface_hub's cache."""

    repo: str
    commit: str
    folder: Path | None
    client: Client

    def fetch(self, path: str, size: int, advance: Advance, *, anew: bool = False) -> Path:
        """Return a file of the repo on this machine; download `size` bytes if it isn't there."""
        return Path(
            self.client.retries.call(
                lambda: self.client.api().hf_hub_download(
                    self.repo,
                    path,
                    revision=self.commit,
                    local_dir=self.folder,
                    force_download=anew,
                    tqdm_class=bar(advance, size),
                )
            )
        )


def pull(
    repo: str,
    folder: Path | None,
    client: Client,
    progress: Progress = SILENT,
    *,
    skip: Callable[[str], bool] = lambda path: False,
) -> Path:
    """Download org/name or org/name@revision, check every file, and return the files' folder.

    `folder` None means the cache of huggingface_hub, where `from_pretrained` finds the files. Each
    file is compared with the Hub's hash and, in a release of hubq, with the hash of what was
    measured. A file that arrived damaged is fetched once more; UserError if that is no better.
    Files whose path `skip` is true of stay there.
    """
    name, revision = address(repo)
    with client.translate_errors(f"downloading {repo}"), without_bars():
        commit, _ = head_of(client, name, revision)
        listed = files_of(client, name, commit)
        files = {path: file for path, file in listed.items() if not skip(path)}
        if not files:
            raise UserError(f"{repo} holds no files")
        snapshot = Snapshot(name, commit, folder, client)
        _refuse_overwriting(snapshot, files)
        places = download(snapshot, files, progress)
        checked = check(snapshot, files, places, progress)
    _refuse_unmeasured(repo, checked)
    first = next(iter(files))
    return places[first].parents[first.count("/")]


def _refuse_overwriting(snapshot: Snapshot, files: Mapping[str, RemoteFile]) -> None:
    """Refuse to replace files of a folder that no download brought there."""
    if snapshot.folder is None:
        return
    records = snapshot.folder / ".cache/huggingface/download"  # huggingface_hub's
    for path, remote in files.items():
        place = snapshot.folder / path
        is_strange = place.is_file() and not (records / f"{path}.metadata").is_file()
        if is_strange and not LocalFile(place).equals(remote):
            raise UserError(
                f"{place} already exists and differs from the one in {snapshot.repo}: nothing was "
                "downloaded.\nMove it elsewhere, or name another folder"
            )


def download(
    snapshot: Snapshot, files: Mapping[str, RemoteFile], progress: Progress
) -> dict[str, Path]:
    """Bring all files to this machine, several at a time."""
    from huggingface_hub import constants

    total = sum(file.size for file in files.values())
    place = snapshot.folder or Path(constants.HF_HUB_CACHE)
    require_space(place, _missing(snapshot, files), f"downloading {snapshot.repo}")
    with progress.task("Downloading", total) as advance:

        def fetch(path: str) -> Path:
            counted = 0

            def count(steps: int) -> None:
                nonlocal counted
                counted += steps
                advance(steps)

            found = snapshot.fetch(path, files[path].size, count)
            # A file that was there already draws no bar, one that was fetched twice too much.
            advance(files[path].size - counted)
            return found

        executor = ThreadPoolExecutor(AT_ONCE)
        try:
            return dict(zip(files, executor.map(fetch, files), strict=True))
        finally:
            executor.shutdown(cancel_futures=True)


def _missing(snapshot: Snapshot, files: Mapping[str, RemoteFile]) -> int:
    """Count the bytes that are not on this machine yet."""
    from huggingface_hub import try_to_load_from_cache

    def there(path: str) -> bool:
        if snapshot.folder is not None:
            return (snapshot.folder / path).exists()
        found = try_to_load_from_cache(snapshot.repo, path, revision=snapshot.commit)
        return isinstance(found, str)

    return sum(file.size for path, file in files.items() if not there(path))


def check(
    snapshot: Snapshot,
    files: Mapping[str, RemoteFile],
    places: Mapping[str, Path],
    progress: Progress,
) -> dict[str, LocalFile]:
    """Hash every file; fetch a damaged one anew, and refuse it when it is damaged again."""
    checked = {}
    with progress.task("Checking files", sum(file.size for file in files.values())) as advance:
        for path, remote in files.items():
            local = LocalFile(places[path])
            if not local.equals(remote):
                found = snapshot.fetch(path, remote.size, lambda steps: None, anew=True)
                local = LocalFile(found)
            if not local.equals(remote):
                _delete(local.path, snapshot)
                raise UserError(
                    f"{path} of {snapshot.repo} arrived damaged twice, so it was deleted.\n"
                    "Try again; if it happens again, check the network's proxy and this disk"
                )
            checked[path] = local
            advance(remote.size)
    return checked


def _delete(path: Path, snapshot: Snapshot) -> None:
    """Delete a file, and what its link in the cache leads to; never what lies elsewhere."""
    from huggingface_hub import constants

    content = path.resolve()
    if content.is_relative_to((snapshot.folder or Path(constants.HF_HUB_CACHE)).resolve()):
        content.unlink()
    path.unlink(missing_ok=True)


def _refuse_unmeasured(repo: str, files: Mapping[str, LocalFile]) -> None:
    """Refuse a release of hubq whose files are not those that its report measured."""
    if REPORT_IN_A_REPO not in files:
        return
    measured = _measured(files[REPORT_IN_A_REPO].path)
    for path in sorted(files.keys() | measured.keys()):
        if what := _wrong(path, files, measured):
            raise UserError(
                f"{path} of {repo} {what}: the repo was changed after hubq published it.\n"
                "Its numbers don't describe this model. Ask the publisher, or pull an earlier "
                "commit: org/name@commit"
            )


def _wrong(path: str, files: Mapping[str, LocalFile], measured: Mapping[str, str]) -> str | None:
    """Say in which way a file is not what was measured; None when it is, or nobody loads it."""
    if path not in files:
        return "is missing, though it was measured"
    if path not in measured:
        return "was added after it was measured" if is_read(path) else None
    is_same = files[path].sha256 == measured[path]
    return None if is_same else "is not the file that was measured"


def is_read(path: str) -> bool:
    """Tell whether a loader may read a file of a repo: it is neither a record nor for people."""
    is_ours = path.startswith("hubq/")  # the records, in which no loader looks
    return not is_ours and PurePosixPath(path).suffix.lower() not in UNREAD


def _measured(report: Path) -> dict[str, str]:
    """Read the hashes from a report of this or any other version of hubq."""
    try:
        values = json.loads(report.read_text(encoding="utf-8"))
        files = values["adaptation" if "adaptation" in values else "checkpoint"]["files"]
        return {str(path): str(sha256) for path, sha256 in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{REPORT_IN_A_REPO} of the repo is not a hubq report, so its files can't be checked"
        ) from error
