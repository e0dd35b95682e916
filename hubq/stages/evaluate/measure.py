"""Measure a folder in a fresh process, or remember what was measured of the same content."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from hubq.client.client import Client
from hubq.client.credentials import environment_for, without_hub
from hubq.machine.device import best_device, measuring_dtype
from hubq.machine.files import alone_with, cache_folder, sha256_of
from hubq.machine.progress import Advance, Progress
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.sources.task_names import is_offline
from hubq.sources.task_sizes import tokens_of
from hubq.stages.evaluate.fit import computes_alike, why_by_blocks
from hubq.stages.evaluate.fork_server import ForkServer
from hubq.stages.evaluate.jobs import Job, Order
from hubq.stages.evaluate.measurements.choice import ChoiceTask
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.measurements.pictures import PictureTask
from hubq.stages.evaluate.processes import can_fork, fork_server_for
from hubq.stages.evaluate.standby import standing_by
from hubq.stages.evaluate.task import PLACES, Outcome, Task, states_file
from hubq.stages.evaluate.workers import run, workers_for

# What can move a number; a measurement counts only for the same versions of these.
LIBRARIES = ("torch", "transformers", "tokenizers", "compressed-tensors", "lm-eval", "datasets")
WRITING = 50  # tokens are read in the time in which one is written, about


class Machine(NamedTuple):
    """Where and how precisely models run."""

    device: str
    dtype: str


def machine(stored: str, asked: str | None = None) -> Machine:
    """Choose the device and, unless a recipe asks for one, the dtype that suits what is stored."""
    return Machine(best_device().type, asked or measuring_dtype(stored).dtype)


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of all libraries that take part in a measurement."""
    found = {name: version(name) for name in LIBRARIES}
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}


class Labelled:
    """A Progress whose titles say which model they are about."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress = progress
        self.label = label

    def task(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Open a task under the label."""
        return self.progress.task(f"{self.label}: {title}", total)


class Pair(NamedTuple):
    """A result and its base, and how both are measured."""

    result: Path
    base: Path
    where: Machine
    client: Client
    progress: Progress
    label: str = "quantized"  # what progress calls the result

    def of_result(self, *tasks: Task) -> tuple[Outcome, ...]:
        """Measure the result."""
        label = Labelled(self.progress, self.label)
        return measure(self.result, tasks, self.where, self.client, label)

    def standing_by(self, number: int) -> AbstractContextManager[None]:
        """Have so many processes ready for what needs no Hub and is timed."""
        return standing_by(worker_environment(online=False, client=self.client), number)

    def knows(self, folder: Path, *tasks: Task) -> bool:
        """Tell whether all of this was measured of a folder before."""
        return all(known(task, outcome_file(folder, task, self.where)) for task in tasks)

    def of_base(self, *tasks: Task) -> tuple[Outcome, ...]:
        """Measure the base."""
        label = Labelled(self.progress, "base")
        return measure(self.base, tasks, self.where, self.client, label)


def measure(
    folder: Path, tasks: Sequence[Task], where: Machine, client: Client, progress: Progress
) -> tuple[Outcome, ...]:
    """Return the outcome of each task; only those that the cache doesn't hold are measured."""
    orders = [Order(task=task, outcome=outcome_file(folder, task, where)) for task in tasks]
    if _missing(orders):
        # Recipes of one base measure it once, also where they do so at the same time.
        with alone_with(cache_folder("measurements") / content_of(folder), progress):
            if missing := _missing(orders):
                _carry_out(missing, folder, where, client, progress)
    return tuple(Outcome.load(order.outcome) for order in orders)


def _missing(orders: Iterable[Order]) -> list[Order]:
    """Return the orders whose outcomes the cache doesn't hold, in turn."""
    return in_turn(order for order in orders if not known(order.task, order.outcome))


def _carry_out(
    orders: Sequence[Order], folder: Path, where: Machine, client: Client, progress: Progress
) -> None:
    job = Job(
        folder=folder.resolve(),
        device=where.device,
        dtype=where.dtype,
        orders=tuple(orders),
        by_blocks=why_by_blocks(folder, where.device, where.dtype),
    )
    run(job, workers_for(job), worker_environment(_asks_a_hub(orders), client), progress)


def in_turn(orders: Iterable[Order]) -> list[Order]:
    """Sort texts first, then the longest tasks: workers that take them in turn end together."""

    def length(order: Order) -> tuple[bool, float]:
        if not isinstance(order.task, ChoiceTask | PictureTask):
            return False, 0.0
        read, written = tokens_of(order.task.name, order.task.limit)
        return True, -(read + WRITING * written)

    return sorted(orders, key=length)


def known(task: Task, outcome: Path) -> bool:
    """Say whether the cache holds an outcome, and the states that belong to it."""
    kept = not isinstance(task, HiddenTask) or states_file(outcome).is_file()
    return kept and outcome.is_file()


def content_of(folder: Path) -> str:
    """Return one digest of all that a loader may read; a file is read once while it stays."""
    digests = {
        name: _digest(path.resolve(), path.stat().st_mtime_ns) for name, path in _loadable(folder)
    }
    return sha256(json.dumps(digests).encode()).hexdigest()


@lru_cache(maxsize=1024)
def _digest(path: Path, modified: int) -> str:
    """Return the sha256 of a file as it was at a time: a model is measured several times."""
    return sha256_of(path)


def file_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that a loader may read, by its path in the folder."""
    return {name: sha256_of(path) for name, path in _loadable(folder)}


def _loadable(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that a loader may read, each with its path in the folder."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.suffix != ".md" and not name.parts[0].startswith("."):
            yield name.as_posix(), path


def outcome_file(folder: Path, task: Task, where: Machine) -> Path:
    """Return where the outcome of a task lies, known by everything that can change it."""
    asked = task.model_dump(mode="json", exclude=set(PLACES))
    if asked.get("at_most") is None:  # a text without a cap is known as before there were caps
        asked.pop("at_most", None)
    if asked.get("engine") == "transformers":  # what is measured as before is known as before
        asked.pop("engine")
    if isinstance(task, HiddenTask):  # known by the dtype that it ran in
        where = where._replace(dtype=asked.pop("precision") or where.dtype)
    parts = [task.protocol_version, content_of(folder), asked, where, library_versions()]
    if not computes_alike(folder) and why_by_blocks(folder, where.device, where.dtype):
        parts.append("by blocks")
    key = sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache_folder("measurements") / f"{key}.json"


def prepare(section: EvaluateSection, client: Client) -> ForkServer | None:
    """Begin to import what will measure a result, while something else is done; None: can't be."""
    if not can_fork(best_device().type):
        return None
    online = not all(is_offline(each.name) for each in section.tasks)
    return fork_server_for(worker_environment(online, client))


def _asks_a_hub(orders: Iterable[Order]) -> bool:
    """Tell whether the data of a task comes from the Hub."""
    return any(each.task.online for each in orders)


def worker_environment(online: bool, client: Client) -> dict[str, str]:
    """Return a worker's environment: with a Hub and its token, or offline and with neither."""
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
    quiet["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")  # as in hubq's main
    if not online:
        offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
        here = without_hub(os.environ)
        return {**here, **quiet, **dict.fromkeys(offline, "1")}
    return {**environment_for(client.url, client.sent_token), **quiet}
