"""Room on the disk: asked for before a long work, not missed at its end."""

import shutil
from pathlib import Path

from hubq.errors import UserError


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise UserError when the disk of a folder (made or not) has fewer free bytes than needed."""
    standing = next(each for each in [folder, *folder.absolute().parents] if each.is_dir())
    free = shutil.disk_usage(standing).free
    if free < needed:
        raise UserError(
            f"not enough space on the disk of {folder}: {purpose} needs {gigabytes(needed)}, "
            f"{gigabytes(free)} are free.\nMake room there, then run again to continue"
        )


def gigabytes(count: float) -> str:
    """Spell a number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
