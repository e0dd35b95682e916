"""The Space in a process of its own, as it runs on a laptop or on a Hub."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

ROOT = Path(__file__).parents[1]
STARTED = "the Space is at "
STARTING, ENDING = 120.0, 30.0  # seconds at most


@contextmanager
def served(
    environment: Mapping[str, str], folder: Path = ROOT / "space", log: Path | None = None
) -> Iterator[str]:
    """Serve the Space until the context ends and give its address; its cache is its own."""
    with TemporaryDirectory(prefix="hubq-space-cache-") as cache:
        # A pipe that nobody reads would hold the Space up when full.
        log = log or Path(cache) / "log.txt"
        with log.open("w") as out:
            child = subprocess.Popen(
                [sys.executable, "app.py"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "HUBQ_CACHE": cache, **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            yield _address(child, log)
        finally:
            _end(child)


def _address(child: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait until the Space says where it is."""
    deadline = monotonic() + STARTING
    while child.poll() is None and monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.startswith(STARTED) and line.endswith("\n"):
                return line.removeprefix(STARTED).strip()
        sleep(0.1)
    raise AssertionError("the Space did not start:\n" + log.read_text(encoding="utf-8"))


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the Space as a Hub does, by force if it doesn't listen."""
    child.terminate()
    try:
        child.wait(ENDING)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
