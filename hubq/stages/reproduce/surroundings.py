"""The machine that makes a release again beside the one that made it, by the release's lock."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from hubq.errors import UserError
from hubq.machine.device import best_device, device_title
from hubq.machine.files import write_atomically
from hubq.machine.packages import installed
from hubq.records.adapted_report import AdaptedReport
from hubq.records.lock import Lock, commands, requirements
from hubq.records.report import Report
from hubq.records.run_folder import LOCK_IN_A_REPO
from hubq.stages.card.sections.usage import is_cpu
from hubq.stages.quantize.accounts import lock_of

THREADS = re.compile(r", ([0-9]{1,4}) threads?$")  # ends a processor's title
GPUS = "CUDA_VISIBLE_DEVICES"
OF_BEFORE = (
    "the release is of before there were locks: its report names {names} and no other library"
)
SHOWN = 8


class Surroundings(NamedTuple):
    """What a release was computed with, as far as its records say."""

    lock: Lock | None  # None: of before
    versions: dict[str, str]
    device: str  # for people
    threads: int | None
    on_cpu: bool


def surroundings(report: Report) -> Surroundings:
    """Read them: those of the last thing that was computed."""
    making = report.adaptation if isinstance(report, AdaptedReport) else report.checkpoint
    lock, title = making.lock, report.checkpoint.device
    if lock is not None:
        versions = {**lock.packages, "hubq": lock.hubq}
        return Surroundings(lock, versions, title, lock.threads, lock.device == "cpu")
    threads = THREADS.search(title)
    count = int(threads[1]) if threads else None
    return Surroundings(None, making.versions, title, count, is_cpu(title))


def other_versions(there: Surroundings) -> list[str]:
    """Say which libraries are of other versions here."""
    here = {**installed("hubq"), "hubq": version("hubq")}
    return [
        f"{name} {here.get(name, 'not installed')} here, {said} there"
        for name, said in sorted(there.versions.items())
        if here.get(name) != said
    ]


def remarks(report: Report, folder: Path) -> Iterator[str]:
    """Say what is not here as it was when a release was made.

    Where libraries differ, `folder` is where `keep_requirements` has written those that it wants.
    """
    there = surroundings(report)
    if there.lock is None:
        yield OF_BEFORE.format(names=", ".join(sorted(there.versions)) or "none")
    if others := other_versions(there):
        more = [f"and {len(others) - SHOWN} more"] if len(others) > SHOWN else []
        ways = commands(there.lock, str(folder / LOCK_IN_A_REPO)) if there.lock else []
        way_out = f"; for those of the release: {' && '.join(ways)}, then hubq" if ways else ""
        yield f"other versions of libraries: {'; '.join([*others[:SHOWN], *more])}{way_out}"
    yield from _other_machine(there)
    if report.plan.processes > 1:
        yield (
            f"it was quantized by {report.plan.processes} processes together, which sum up in "
            "another order than the one here"
        )


def _other_machine(there: Surroundings) -> Iterator[str]:
    """Say how the device differs, and why its threads are not as many."""
    lock, device = there.lock, best_device()
    if not there.on_cpu and device.type == "cpu":
        yield f"it was made on a GPU ({there.device}), and there is none here"
    elif lock is not None and there.on_cpu:
        here = lock_of(torch.device("cpu"))
        if (here.system, here.instructions) != (lock.system, lock.instructions):
            yield (
                f"another kind of machine: {here.system} with {here.instructions} here, "
                f"{lock.system} with {lock.instructions} there"
            )
    elif not there.on_cpu and device_title(device) != there.device:
        yield f"another GPU: {device_title(device)} here, {there.device} there"
    if there.on_cpu and there.threads is None:
        yield "its records don't say on how many threads it was made"
    elif there.on_cpu and there.threads is not None and there.threads > _most_threads():
        yield (
            f"it was made on {there.threads} threads, and {_most_threads()} are used here: there "
            "are no more processors"
        )


def _most_threads() -> int:
    return os.cpu_count() or 1


def keep_requirements(report: Report, folder: Path) -> None:
    """Write a release's versions into a folder, as uv reads them, where they are known."""
    if lock := surroundings(report).lock:
        place = folder / LOCK_IN_A_REPO
        write_atomically(place, requirements(lock, str(place)).encode())


def refuse_others(report: Report) -> None:
    """Raise UserError where a library is of another version, or versions aren't known."""
    there = surroundings(report)
    lines = other_versions(there)
    if there.lock is None:
        lines.insert(0, OF_BEFORE.format(names=", ".join(sorted(there.versions)) or "none"))
    if lines:
        raise UserError(
            "this is not what the release was made with, and --strict was asked for:\n  "
            + "\n  ".join(lines)
        )


@contextmanager
def as_made(report: Report) -> Iterator[None]:
    """Compute inside the context on the device and the threads of a release, where there are such.

    GPUs are hidden from one that was made without, as long as nothing has used them yet.
    """
    there = surroundings(report)
    threads, visible = torch.get_num_threads(), os.environ.get(GPUS)
    if there.on_cpu:
        os.environ[GPUS] = ""
        torch.set_num_threads(min(there.threads or threads, _most_threads()))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if there.on_cpu:
            os.environ.pop(GPUS)
            os.environ |= {} if visible is None else {GPUS: visible}
