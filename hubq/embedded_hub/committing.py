"""Writing git history: commits that happen wholly or not at all, branches, merges.

Which files come as large ones, and which not at all, is read from the history before.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from threading import Lock

from dulwich.attrs import GitAttributes, Pattern, parse_git_attributes
from dulwich.file import FileLocked
from dulwich.graph import find_merge_base
from dulwich.ignore import IgnoreFilter, read_ignore_patterns
from dulwich.index import commit_tree
from dulwich.objects import Blob, Commit, ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo

from hubq.embedded_hub.history import FILE_MODE, Entry, commit_id, list_entries, peel, read_blob
from hubq.embedded_hub.refusals import Refusal, bad_request, check_path, entry_not_found

PATIENCE = 20.0  # seconds that a commit waits for another one of the same repo
LOOK = 0.01  # seconds between two looks at what another request writes
MAX_REGULAR = 10 * 1024 * 1024


@dataclass(frozen=True)
class Message:
    """What a commit says and who says it."""

    author: str
    summary: str
    description: str = ""

    def encode(self) -> bytes:
        """Write the message as git keeps it."""
        return "\n\n".join(part for part in (self.summary, self.description) if part).encode()


@dataclass(frozen=True)
class Change:
    """What a commit does to one path: a blob to put there, or None to delete."""

    path: str
    blob: str | None
    folder: bool = False


@dataclass
class Locks:
    """One lock for each repo, since git's own covers one ref and not the reading before."""

    _locks: dict[str, Lock] = field(default_factory=dict)
    _guard: Lock = field(default_factory=Lock)

    @contextmanager
    def hold(self, repo_id: str) -> Iterator[None]:
        """Keep other writers of the repo out, or refuse when one takes too long."""
        with self._guard:
            lock = self._locks.setdefault(repo_id, Lock())
        if not lock.acquire(timeout=PATIENCE):
            raise Refusal(
                409,
                "Another commit operation is in progress for this repository. "
                "Please try again later.",
            )
        try:
            yield
        finally:
            lock.release()


def put_blob(git: Repo, content: bytes) -> str:
    """Write a blob and return its id. Until a commit names it, it changes nothing."""
    blob = Blob.from_string(content)
    last = time.monotonic() + PATIENCE
    while blob.id not in git.object_store:
        try:
            git.object_store.add_object(blob)
        except FileLocked:  # another request is just writing the same content
            if time.monotonic() > last:
                raise
            time.sleep(LOOK)
    return blob.id.decode()


def apply_changes(entries: Mapping[str, Entry], changes: Iterable[Change]) -> dict[str, Entry]:
    """Return the files after the changes, or refuse those that don't fit."""
    after = dict(entries)
    for change in changes:
        check_path(change.path)
        if change.blob is not None:
            after[change.path] = Entry(FILE_MODE, change.blob)
        elif change.folder:
            _delete_folder(after, change.path)
        elif after.pop(change.path, None) is None:
            raise entry_not_found("A file with this name doesn't exist")
    _refuse_files_that_are_folders(after)
    return after


def _delete_folder(files: dict[str, Entry], folder: str) -> None:
    inside = [path for path in files if path.startswith(folder + "/")]
    if not inside:
        raise entry_not_found("A folder with this name doesn't exist")
    for path in inside:
        del files[path]


def _refuse_files_that_are_folders(files: Mapping[str, Entry]) -> None:
    folders = {path[:cut] for path in files for cut in _slashes(path)}
    if clash := sorted(folders & files.keys()):
        raise bad_request(f"{clash[0]!r} cannot be a file and a folder at once")


def _slashes(path: str) -> list[int]:
    return [index for index, letter in enumerate(path) if letter == "/"]


def write_commit(
    git: Repo, files: Mapping[str, Entry], parents: list[ObjectID], message: Message
) -> Commit:
    """Write the tree and the commit. No ref moves yet."""
    blobs = [(path.encode(), ObjectID(e.blob.encode()), e.mode) for path, e in files.items()]
    commit = Commit()
    commit.tree = commit_tree(git.object_store, blobs)
    commit.parents = parents
    name = message.author
    commit.author = commit.committer = f"{name} <{name}@users.noreply.localhost>".encode()
    commit.author_time = commit.commit_time = int(time.time())
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    commit.message = message.encode()
    git.object_store.add_object(commit)
    return commit


def move_ref(git: Repo, ref: Ref, old: ObjectID | None, new: ObjectID) -> None:
    """Point a ref to another object if it still points where we read it, else refuse."""
    expected = ObjectID(b"0" * 40) if old is None else old
    if not git.refs.set_if_equals(ref, expected, new):
        raise _stale()


def check_parent(head: Commit, parent: str | None) -> None:
    """Refuse a commit that was made for another head; a prefix of the id is enough to name it."""
    if parent and not commit_id(head).startswith(parent):
        raise _stale()


def _stale() -> Refusal:
    return Refusal(412, "A commit has happened since. Please refresh and try again.")


def commit_changes(
    git: Repo, ref: Ref, changes: Iterable[Change], message: Message, parent: str | None = None
) -> Commit:
    """Commit changes on top of a ref: all of them, or none and a refusal.

    The caller holds the repo's lock. `parent` is the id, or its first digits, that the head must
    have.
    """
    head = peel(git, git.refs[ref])
    check_parent(head, parent)
    files = apply_changes(list_entries(git, head), changes)
    commit = write_commit(git, files, [head.id], message)
    move_ref(git, ref, head.id, commit.id)
    return commit


def squash(git: Repo, ref: Ref, message: Message) -> Commit:
    """Replace a branch's history by one commit with the same files."""
    head = peel(git, git.refs[ref])
    commit = write_commit(git, list_entries(git, head), [], message)
    move_ref(git, ref, head.id, commit.id)
    return commit


def conflicts(git: Repo, ours: Commit, theirs: Commit) -> list[str]:
    """List the paths that both sides changed since they parted, each in its own way."""
    base, left, right = _three_sides(git, ours, theirs)
    return sorted(
        path
        for path in left.keys() | right.keys()
        if left.get(path) != right.get(path)
        and base.get(path) not in (left.get(path), right.get(path))
    )


def merge(git: Repo, ref: Ref, theirs: Commit, message: Message) -> Commit:
    """Bring the changes of another commit onto a branch as one commit.

    The caller has made sure that there are no conflicts and holds the repo's lock.
    """
    ours = peel(git, git.refs[ref])
    base, _, right = _three_sides(git, ours, theirs)
    gone = [Change(path, None) for path in base.keys() - right.keys()]
    left = list_entries(git, ours)
    changes = [change for change in gone if change.path in left] + [
        Change(path, entry.blob) for path, entry in right.items() if base.get(path) != entry
    ]
    return commit_changes(git, ref, changes, message)


def _three_sides(
    git: Repo, ours: Commit, theirs: Commit
) -> tuple[dict[str, Entry], dict[str, Entry], dict[str, Entry]]:
    common = find_merge_base(git, [ours.id, theirs.id])
    base = list_entries(git, peel(git, common[0])) if common else {}
    return base, list_entries(git, ours), list_entries(git, theirs)


class UploadModes:
    """The rules of one commit: its .gitattributes and .gitignore."""

    def __init__(self, git: Repo, entries: Mapping[str, Entry], ignore: str | None) -> None:
        attributes = _content(git, entries, ".gitattributes")
        parsed = parse_git_attributes(BytesIO(attributes))
        self._attributes = GitAttributes([(Pattern(raw), values) for raw, values in parsed])
        rules = _content(git, entries, ".gitignore") if ignore is None else ignore.encode()
        self._ignore = IgnoreFilter(read_ignore_patterns(BytesIO(rules)))

    def large(self, path: str, size: int, sample: bytes) -> bool:
        """Tell whether a file goes to the large store: by pattern, by size, or as it is binary."""
        by_pattern = self._attributes.match_path(path.encode()).get(b"filter") == b"lfs"
        return by_pattern or size > MAX_REGULAR or _is_binary(sample)

    def ignored(self, path: str) -> bool:
        """Tell whether .gitignore leaves the file, or a folder above it, out."""
        parts = path.split("/")
        folders = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
        return any(self._ignore.is_ignored(name.encode()) for name in [*folders, path])


def _content(git: Repo, entries: Mapping[str, Entry], path: str) -> bytes:
    return read_blob(git, entries[path].blob) if path in entries else b""


def _is_binary(sample: bytes) -> bool:
    """Tell text from binary by the first bytes; a character cut in half at the end is no sign."""
    try:
        text = sample.decode()
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 3:
            return True
        text = sample[: error.start].decode()
    return "\0" in text
