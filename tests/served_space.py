"""The Space in a process of its own, as it runs on a laptop or on a Hub."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
STARTED = "the Space is at "


@contextmanager
def served(environment: Mapping[str, str], folder: Path = ROOT / "space") -> Iterator[str]:
    """Serve the Space until the context ends and give its address."""
    child = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout is not None
    said = []
    try:
        for line in child.stdout:
            said.append(line)
            if line.startswith(STARTED):
                yield line.removeprefix(STARTED).strip()
                break
        else:
            raise AssertionError("the Space did not start:\n" + "".join(said))
    finally:
        child.terminate()
        child.communicate()
