"""Asking git itself whether the hub's repositories are sound."""

import subprocess
from pathlib import Path

FSCK = ("git", "fsck", "--strict", "--full", "--no-dangling")


def fsck(root: Path) -> None:
    """Run `git fsck --strict` over all repositories of a hub.

    Raises RuntimeError with git's words when it finds fault.
    """
    for repository in sorted((root / "repos").glob("*.git")):
        done = subprocess.run(
            [FSCK[0], "-C", str(repository), *FSCK[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        complaints = done.stdout + done.stderr
        if done.returncode != 0 or complaints.strip():
            raise RuntimeError(f"git fsck of {repository}:\n{complaints}")
