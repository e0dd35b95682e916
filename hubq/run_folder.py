"""The folder of a run: one process at a time works in it, and only a run's is ever cleared."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubq.errors import UserError

PLAN = "plan.json"  # what makes a folder that of a run
TAKEN = (errno.EACCES, errno.EAGAIN)
WITHOUT_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # NFS and its like


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep a run folder, made if missing, from other processes.

    The lock is on the folder itself and ends with the process, however that ends. A file system
    without such locks gives none: it is there against accidents.
    """
    run.mkdir(parents=True, exist_ok=True)
    handle = os.open(run, os.O_RDONLY)
    try:
        _lock(handle, run)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, run: Path) -> None:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            raise UserError(
                f"another hubq is at work in {run}.\n"
                "Wait until it ends, or choose another folder with --run."
            ) from error
        if error.errno not in WITHOUT_LOCKS:
            raise


def require_run(folder: Path) -> None:
    """Raise UserError for a folder that holds something, but no run."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PLAN).is_file():
        raise UserError(f"{folder} holds files but no {PLAN}, so it is no run folder: not removed")


def clear(run: Path) -> None:
    """Remove what a run made: first its records, so that a kill leaves nothing half that counts.

    Its plan stays, to be replaced in one step.
    """
    require_run(run)
    for path in sorted(run.iterdir(), key=Path.is_dir) if run.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != PLAN:
            path.unlink()
