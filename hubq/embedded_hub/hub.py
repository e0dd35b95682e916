"""All the stores of one hub, opened from its root folder, and what changes several at once.

Making and deleting a repo touches its git repository and its place in the list.
"""

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dulwich.refs import Ref

from hubq.embedded_hub.accounts import Accounts, Tickets
from hubq.embedded_hub.committing import Locks, Message, move_ref, put_blob, write_commit
from hubq.embedded_hub.history import FILE_MODE, Entry, Histories
from hubq.embedded_hub.refusals import forbidden
from hubq.embedded_hub.repositories import Belongings, Repositories, Repository
from hubq.embedded_hub.storage import Database, Objects
from hubq.embedded_hub.xet import Xet
from hubq.errors import UserError

FIRST_USER = "local"
LOOPBACK = ("127.0.0.1", "localhost")  # where a hub may listen, and what its visitors may call it
# Suffixes of files that git should not keep.
LARGE = """
    7z arrow bin bz2 ckpt ftz gguf gz h5 joblib mlmodel model msgpack npy npz onnx ot parquet pb
    pickle pkl pt pth rar safetensors tar tflite tgz wasm xz zip zst
"""
LARGE_MEDIA = "png jpg jpeg gif webp mp3 mp4 wav flac ogg webm"
SPACE_CARD = """---
title: {title}
sdk: {sdk}
pinned: false
---
"""


def close_to_others(root: Path) -> None:
    """Make a folder that only its owner enters, or close one that exists.

    Raises UserError for a folder that is somebody else's, everybody's, or stays open.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    way_out = "Choose a folder of your own for the hub"
    if root.stat().st_uid != os.getuid():
        raise UserError(f"The hub's folder {root} belongs to another user. {way_out}.")
    if root.stat().st_mode & stat.S_ISVTX:
        raise UserError(f"The folder {root} is shared by all users, as /tmp is. {way_out}.")
    if root.stat().st_mode & 0o077:
        root.chmod(0o700)
    if root.stat().st_mode & 0o077:
        raise UserError(
            f"The file system of {root} can't protect a folder from other users. {way_out}."
        )


@dataclass(frozen=True)
class Hub:
    """What request handlers work on."""

    root: Path
    instance: str  # of this server process
    series: str  # of this root, whichever process serves it
    database: Database
    accounts: Accounts
    repositories: Repositories
    histories: Histories
    objects: Objects
    xet: Xet
    tickets: Tickets
    locks: Locks

    @classmethod
    def open(cls, root: Path) -> "Hub":
        """Open the hub in a folder; make what is missing."""
        close_to_others(root)
        database = Database(root / "hub.sqlite")
        database.prepare()
        accounts = Accounts(database)
        accounts.add_user(FIRST_USER)
        objects = Objects(root / "objects")
        return cls(
            root,
            instance=uuid.uuid4().hex,
            series=database.fact("series"),
            database=database,
            accounts=accounts,
            repositories=Repositories(database),
            histories=Histories(root / "repos"),
            objects=objects,
            xet=Xet(root / "xet", database, objects),
            tickets=Tickets(bytes.fromhex(database.fact("ticket_key", size=32))),
            locks=Locks(),
        )


def create_repo(hub: Hub, repo: Repository, author: str, given: Belongings) -> None:
    """Make a repo with its first commit, as the Hub does.

    Raises FileExistsError when the name is taken.
    """
    with place_repo(hub, repo, given) as place, hub.histories.create(place) as git:
        files = {
            path: Entry(FILE_MODE, put_blob(git, content.encode()))
            for path, content in _first_files(repo).items()
        }
        commit = write_commit(git, files, [], Message(author, "initial commit"))
        move_ref(git, Ref(b"refs/heads/main"), None, commit.id)


@contextmanager
def place_repo(hub: Hub, repo: Repository, given: Belongings) -> Iterator[Path]:
    """Give a path at which to make a repo's history; list the repo when it is made.

    Whatever fails on the way, a full disk too, nothing is left of it. Raises FileExistsError when
    the name is taken.
    """
    draft, place = hub.histories.draft(repo.id), hub.histories.path(repo.id)
    try:
        yield draft
        draft.rename(place)
        hub.repositories.add(repo, given)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
        raise


def delete_repo(hub: Hub, repo: Repository) -> None:
    """Strike a repo off the list and delete its history. Large files stay: others may hold them."""
    hub.repositories.remove(repo)
    shutil.rmtree(hub.histories.path(repo.id))


def check_room(hub: Hub, repo: Repository, added: int) -> None:
    """Refuse large files that an account's private repos have no room for, in the Hub's words."""
    most = hub.accounts.most(repo.namespace)
    if most is None or not repo.private:
        return
    own = [each for each in hub.repositories.all() if each.namespace == repo.namespace]
    held = [sha for each in own if each.private for sha in hub.repositories.holdings(each)]
    if sum(hub.objects.size(sha) or 0 for sha in held) + added > most:
        raise forbidden(
            "Private repository storage limit reached, please upgrade your plan to increase your "
            "private storage limit"
        )


def _first_files(repo: Repository) -> dict[str, str]:
    suffixes = LARGE.split() + (LARGE_MEDIA.split() if repo.kind == "dataset" else [])
    patterns = [*(f"*.{suffix}" for suffix in suffixes), "*tfevents*", "saved_model/**/*"]
    attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns)
    files = {".gitattributes": attributes}
    if repo.kind == "space":
        files["README.md"] = SPACE_CARD.format(title=repo.name, sdk=repo.sdk or "static")
    return files
