"""Reading bare git repositories: revisions, trees, files, commits, differences."""

import io
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dulwich.errors import NotGitRepository
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.patch import write_object_diff
from dulwich.refs import Ref
from dulwich.repo import Repo

from hubq.embedded_hub.refusals import entry_not_found, repository_not_found, revision_not_found
from hubq.embedded_hub.storage import Pointer
from hubq.records.vocabulary import is_revision

FILE_MODE = 0o100644
MAX_COMPARED = 200_000  # bytes of a file whose lines are compared
MAX_DIFF = 500_000  # bytes, after which files are only named


class Entry(NamedTuple):
    """A file in a tree: git's mode and the id of its blob."""

    mode: int
    blob: str


@dataclass(frozen=True)
class File:
    """A file as the API shows it: the large one behind its pointer, if it is large."""

    path: str
    blob: str
    size: int
    stored: int
    pointer: Pointer | None


class Histories:
    """The bare git repositories of one hub, one folder for each repo's id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, repo_id: str) -> Path:
        """Say where the git repository of a repo lives."""
        return self.folder / f"{repo_id}.git"

    def draft(self, repo_id: str) -> Path:
        """Say where the git repository of a repo is made, before it gets its place whole."""
        return self.folder / "incoming" / f"{repo_id}.git"

    def create(self, place: Path) -> Repo:
        """Make an empty bare repository at a place."""
        place.mkdir(parents=True)
        return Repo.init_bare(place, default_branch=b"main")

    def open(self, repo_id: str) -> Repo:
        """Open a repository, or refuse one that was deleted meanwhile; the caller closes it."""
        try:
            return Repo(str(self.path(repo_id)))
        except NotGitRepository as error:
            raise repository_not_found(anonymous=False) from error


def branch_ref(revision: str) -> Ref:
    """Name the ref that a commit to this revision moves, or refuse what is no name of one."""
    if not is_revision(revision):
        raise revision_not_found(revision)
    if re.fullmatch(r"refs/(pr|heads)/.+", revision):
        return Ref(revision.encode())
    return Ref(b"refs/heads/" + revision.encode())


def find_commit(git: Repo, revision: str) -> Commit:
    """Find the commit of a branch, tag, refs/pr/N, HEAD, commit id or a prefix of one."""
    if not is_revision(revision):
        raise revision_not_found(revision)
    for ref in _candidate_refs(revision):
        if (oid := git.refs.read_ref(ref)) is not None:
            return peel(git, ObjectID(oid))
    if re.fullmatch(r"[0-9a-f]{5,40}", revision):
        return _commit_by_prefix(git, revision)
    raise revision_not_found(revision)


def _candidate_refs(revision: str) -> list[Ref]:
    name = revision.encode()
    if revision == "HEAD":
        return [Ref(b"refs/heads/main")]
    if name.startswith(b"refs/"):
        return [Ref(name)]
    return [Ref(b"refs/heads/" + name), Ref(b"refs/tags/" + name)]


def _commit_by_prefix(git: Repo, prefix: str) -> Commit:
    found = git.object_store.iter_prefix(prefix.encode())
    matches = [oid for oid in found if git[oid].type_name == b"commit"]
    if len(matches) != 1:
        raise revision_not_found(prefix)
    return peel(git, matches[0])


def peel(git: Repo, oid: ObjectID) -> Commit:
    """Follow annotated tags down to the commit."""
    found: ShaFile = git[oid]
    while isinstance(found, Tag):
        found = git[found.object[1]]
    assert isinstance(found, Commit)
    return found


def commit_id(commit: Commit) -> str:
    """Return the id of a commit in hex."""
    return commit.id.decode()


def list_entries(git: Repo, commit: Commit) -> dict[str, Entry]:
    """Map the path of each file of a commit to its entry."""
    return dict(_walk(git, commit.tree, ""))


def _walk(git: Repo, tree_id: ObjectID, prefix: str) -> Iterator[tuple[str, Entry]]:
    tree = git[tree_id]
    assert isinstance(tree, Tree)
    for item in tree.iteritems():
        path = prefix + item.path.decode()
        if stat.S_ISDIR(item.mode):
            yield from _walk(git, item.sha, path + "/")
        else:
            yield path, Entry(item.mode, item.sha.decode())


def list_folders(git: Repo, commit: Commit) -> dict[str, str]:
    """Map the path of each folder of a commit to the id of its tree."""
    found: dict[str, str] = {}
    waiting = [("", commit.tree)]
    while waiting:
        prefix, tree_id = waiting.pop()
        tree = git[tree_id]
        assert isinstance(tree, Tree)
        for item in tree.iteritems():
            if stat.S_ISDIR(item.mode):
                path = prefix + item.path.decode()
                found[path] = item.sha.decode()
                waiting.append((path + "/", item.sha))
    return found


def read_blob(git: Repo, blob: str) -> bytes:
    """Return the content of a blob."""
    found = git[ObjectID(blob.encode())]
    assert isinstance(found, Blob)
    return found.data


def describe(git: Repo, path: str, entry: Entry) -> File:
    """Look at a file: its true size and, if it is a large one, its pointer."""
    stored, start = _peek(git, entry.blob)
    pointer = Pointer.decode(start) if stored == len(start) else None
    size = pointer.size if pointer else stored
    return File(path, entry.blob, size, stored, pointer)


def _peek(git: Repo, blob: str) -> tuple[int, bytes]:
    """Return the size of a blob and how it starts, without reading all of it."""
    place = Path(os.fsdecode(git.object_store.path)) / blob[:2] / blob[2:]
    try:
        with place.open("rb") as file:
            head = zlib.decompressobj().decompress(file.read(1024), 1024)
    except FileNotFoundError:  # it lies in a pack
        content = read_blob(git, blob)
        return len(content), content
    kind_and_size, _, start = head.partition(b"\0")
    return int(kind_and_size.split()[1]), start


def find_file(git: Repo, commit: Commit, path: str) -> File:
    """Describe the file at a path, or refuse a path that is missing or a folder."""
    try:
        mode, blob = git[commit.tree].lookup_path(git.__getitem__, path.encode())  # type: ignore[attr-defined]
    except (KeyError, NotADirectoryError):
        mode, blob = 0, None
    if blob is None or stat.S_ISDIR(mode):
        raise entry_not_found(commit=commit_id(commit))
    return describe(git, path, Entry(mode, blob.decode()))


def walk_commits(git: Repo, head: Commit) -> Iterator[Commit]:
    """Walk back from a commit along all parents, newest first."""
    for step in git.get_walker(include=[head.id]):
        yield step.commit


def last_commits(git: Repo, head: Commit, wanted: Mapping[str, str]) -> dict[str, Commit]:
    """Find, for each path with its object id, the commit that last changed it."""
    found: dict[str, Commit] = {}
    newer, waiting = head, dict(wanted)
    for older in walk_commits(git, head):
        if older.id == head.id:
            continue
        there = _objects(git, older)
        for path in [path for path, oid in waiting.items() if there.get(path) != oid]:
            found[path] = newer
            del waiting[path]
        newer = older
        if not waiting:
            break
    return found | dict.fromkeys(waiting, newer)


def _objects(git: Repo, commit: Commit) -> dict[str, str]:
    blobs = {path: entry.blob for path, entry in list_entries(git, commit).items()}
    return blobs | list_folders(git, commit)


def difference(git: Repo, old: Commit, new: Commit) -> str:
    """Write the unified diff between two commits.

    Files too large to compare in a moment are only named, and so are those behind `MAX_DIFF`.
    """
    out = io.BytesIO()
    for paths, modes, blobs in git.object_store.tree_changes(old.tree, new.tree):
        sizes = [_peek(git, blob.decode())[0] if blob else 0 for blob in blobs]
        sides = list(zip(paths, modes, blobs, strict=True))
        if max(sizes) <= MAX_COMPARED and out.tell() <= MAX_DIFF:
            write_object_diff(out, git.object_store, sides[0], sides[1])
        else:
            name = next(path for path in paths if path is not None)
            out.write(b"%s: from %d to %d bytes, not shown\n" % (name, sizes[0], sizes[1]))
    return out.getvalue().decode(errors="replace")
