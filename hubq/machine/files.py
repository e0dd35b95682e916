"""Files: fingerprints, JSON that others wrote, room on the disk, and where hubq keeps its own."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress

PARTIAL = ".partial"  # ends the name of what is being written
TAKEN = (errno.EACCES, errno.EAGAIN)
WITHOUT_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # NFS and its like
MAX_BYTES = 100_000_000  # a description longer than that describes no model


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise UserError when the disk of a folder (made or not) has fewer free bytes than needed."""
    standing = next(each for each in [folder, *folder.absolute().parents] if each.is_dir())
    free = shutil.disk_usage(standing).free
    if free < needed:
        raise UserError(
            f"not enough space on the disk of {folder}: {purpose} needs {gigabytes(needed)}, "
            f"{gigabytes(free)} is free.\n"
            "Make room there, then run again to continue"
        )


def gigabytes(count: float) -> str:
    """Spell a number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise UserError for anything else."""
    if not path.is_file():  # a pipe would be read for ever
        raise UserError(f"{path} is missing; a model folder needs one")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes; fetch the model again")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not JSON ({error}); correct it, or fetch the model again"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object; correct it, or fetch the model again")
    return value


def sha256_of(path: Path) -> str:
    """Return a file's sha256 as 64 hex digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(*parts: str) -> Path:
    """Return a folder below HUBQ_CACHE, or below the user's cache folder; make it if need be."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("HUBQ_CACHE") or user / "hubq").joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone_with(path: Path, progress: Progress = SILENT) -> Iterator[None]:
    """Keep other processes from making the same file of the cache: the later one waits.

    The lock ends with the process, however that ends. A file system without locks gives none. It
    is not to be taken twice by one process.
    """
    import fcntl  # Windows has none

    handle = os.open(cache_folder("locks", path.parent.name) / path.name, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                with progress.task("Waiting for another process that does the same", 1):
                    fcntl.flock(handle, fcntl.LOCK_EX)
            elif error.errno not in WITHOUT_LOCKS:
                raise
        yield
    finally:
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_in_one_step(path) as file:
        file.write(content)


@contextmanager
def written_in_one_step(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place once all is written."""
    partial = partial_of(path)
    with partial.open("wb") as file:
        yield file
    os.replace(partial, path)


def partial_folder(path: Path) -> Path:
    """Make the folder in which another is written, empty whatever a killed run left; return it."""
    folder = partial_of(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def put_in_place(partial: Path, folder: Path) -> None:
    """Let a folder that is all written take the place of another, or of none."""
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def partial_of(path: Path) -> Path:
    """Return where a file or a folder is while it is being written."""
    return path.with_name(path.name + PARTIAL)
