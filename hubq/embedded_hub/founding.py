"""Making a repo: the git repository, its first commit, its place in the list."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dulwich.refs import Ref

from hubq.embedded_hub.committing import Message, move_ref, put_blob, write_commit
from hubq.embedded_hub.history import FILE_MODE, Entry
from hubq.embedded_hub.hub import Hub
from hubq.embedded_hub.repositories import Belongings, Repository

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


def found(hub: Hub, repo: Repository, author: str, given: Belongings) -> None:
    """Make a repo with its first commit, as the Hub does.

    Raises FileExistsError when the name is taken.
    """
    with founding(hub, repo, given) as place, hub.histories.create(place) as git:
        files = {
            path: Entry(FILE_MODE, put_blob(git, content.encode()))
            for path, content in _first_files(repo).items()
        }
        commit = write_commit(git, files, [], Message(author, "initial commit"))
        move_ref(git, Ref(b"refs/heads/main"), None, commit.id)


@contextmanager
def founding(hub: Hub, repo: Repository, given: Belongings) -> Iterator[Path]:
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


def remove(hub: Hub, repo: Repository) -> None:
    """Strike a repo off the list and delete its history. Large files stay: others may hold them."""
    hub.repositories.remove(repo)
    shutil.rmtree(hub.histories.path(repo.id))


def _first_files(repo: Repository) -> dict[str, str]:
    suffixes = LARGE.split() + (LARGE_MEDIA.split() if repo.kind == "dataset" else [])
    patterns = [*(f"*.{suffix}" for suffix in suffixes), "*tfevents*", "saved_model/**/*"]
    attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns)
    files = {".gitattributes": attributes}
    if repo.kind == "space":
        files["README.md"] = SPACE_CARD.format(title=repo.name, sdk=repo.sdk or "static")
    return files
