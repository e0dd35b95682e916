"""The Space in a process of its own, as it runs on a laptop or on a Hub."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
STARTED = "the Space is at "


@contextmanager
def served(environment: Mapping[str, str], folder: Path = ROOT / "space") -> Iterator[str]:
    """Serve the Space until the context ends and give its address; its cache is its own."""
    with TemporaryDirectory(prefix="hubq-space-cache-") as cache:
        child = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HUBQ_CACHE": cache, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield _address(child)
        finally:
            child.terminate()
            child.communicate()


def _address(child: "subprocess.Popen[str]") -> str:
    """Wait until the Space says where it is."""
    assert child.stdout is not None
    said = []
    for line in child.stdout:
        said.append(line)
        if line.startswith(STARTED):
            return line.removeprefix(STARTED).strip()
    raise AssertionError("the Space did not start:\n" + "".join(said))
