"""The processes that hold models: found by their folder, and slowed down.

Tiny models answer so fast that a test could press no button meanwhile: it suspends them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from threading import Event as Flag
from threading import Thread

import psutil


def workers(folder: Path) -> Iterator[psutil.Process]:
    """Yield the processes whose models lie in a folder, as their jobs say."""
    for pid in Path(gettempdir()).glob("hubq-space-*/*/pid"):
        job = json.loads((pid.parent / "job.json").read_bytes())
        if Path(job["folder"]).is_relative_to(folder):
            with suppress(psutil.Error):  # it has ended
                yield psutil.Process(int(pid.read_text()))


@contextmanager
def halted(folder: Path) -> Iterator[None]:
    """Let those of a folder that are loaded do nothing for a moment."""
    found = list(workers(folder))
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def slowed(folder: Path) -> Iterator[None]:
    """Let those of a folder work a small part of the time, so that their answers take time."""
    over = Flag()

    def slow() -> None:
        while not over.is_set():
            with halted(folder):
                over.wait(0.5)
            over.wait(0.05)

    thread = Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
