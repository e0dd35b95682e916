"""Tasks on pictures: asked one picture at a time, scored by the rules of `picture_tasks/`.

A model writes its answer greedily to one turn of a user, the picture first and then the text.
"""

import math
from functools import cache
from hashlib import sha256
from importlib.metadata import version as installed
from pathlib import Path
from statistics import variance
from typing import ClassVar, Literal

from hubq.client.client import Client
from hubq.machine.progress import Progress
from hubq.records.recipe_evaluate import EvaluateSection, TaskSection
from hubq.sources.task_names import dimension_of, is_offline
from hubq.stages.evaluate.inference.seeing import Viewer
from hubq.stages.evaluate.picture_benchmark import Benchmark, HubData, Number
from hubq.stages.evaluate.picture_questions import (
    Answer,
    Wanted,
    commit_of,
    questions,
)
from hubq.stages.evaluate.picture_tasks import benchmark_named
from hubq.stages.evaluate.task import Found, MeasuredModel, Score, Task

HUBQ = Path(__file__).parents[3]
DEFINED_IN = (  # what of hubq decides what is asked and how it is scored
    *("sources/pictures", "stages/evaluate/picture_tasks"),
    *("stages/evaluate/picture_benchmark.py", "stages/evaluate/picture_questions.py"),
)
DIGEST = 12  # hexadecimal digits


class PictureTask(Task):
    """A task on pictures."""

    kind: Literal["pictures"] = "pictures"
    protocol_version: ClassVar = 1

    name: str
    definition: str  # sha256 of all of hubq that defines it
    pillow: str  # the version that reads and draws pictures
    revision: str | None  # the commit of its data; None: drawn, or not looked up
    seed: int | None  # of what is drawn
    limit: int | None

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return self.name

    @property
    def online(self) -> bool:
        """Whether the pictures come from the Hub."""
        return not is_offline(self.name)

    @property
    def writes(self) -> bool:
        """Whether the model writes texts: it does."""
        return True

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Ask the model."""
        viewer = Viewer(model.passes.model, model.passes.folder)
        most = benchmark_named(self.name).new_tokens
        return Found(
            scores=scores(self, lambda seen, text: viewer.answer(seen, text, most), progress)
        )


def picture_task(
    task: TaskSection, section: EvaluateSection, client: Client | None = None
) -> PictureTask:
    """Describe a task for a worker; with a client its data is pinned to the commit it is at now."""
    data = benchmark_named(task.name).data
    on_hub = isinstance(data, HubData)
    return PictureTask(
        name=task.name,
        definition=definition(),
        pillow=installed("pillow"),
        revision=commit_of(data, client) if isinstance(data, HubData) and client else None,
        seed=None if on_hub else section.seed,
        limit=section.limit,
    )


@cache
def definition() -> str:
    """Return the sha256 of all that defines tasks on pictures."""
    places = [HUBQ / each for each in DEFINED_IN]
    files = [file for each in places for file in (each.rglob("*.py") if each.is_dir() else [each])]
    return sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def scores(task: PictureTask, answer: Answer, progress: Progress) -> tuple[Score, ...]:
    """Ask all that a task asks, and score it."""
    benchmark = benchmark_named(task.name)
    wanted = Wanted(task.limit, task.seed, task.revision)
    asked = questions(benchmark, wanted, Client())
    with progress.task(task.title, len(asked)) as advance:
        units = asked.answered(answer, advance)
    return tuple(_score(task, benchmark, each, asked.left_out) for each in benchmark.numbers(units))


def _score(task: PictureTask, benchmark: Benchmark, number: Number, left_out: int) -> Score:
    """Describe one number."""
    return Score(
        task=f"{task.name}_{number.part}" if number.part else task.name,
        part_of=task.name if number.part else None,
        dataset=benchmark.data.title,
        metric=number.metric,
        better="higher",
        dimension=dimension_of(task.name),
        value=number.value,
        stderr=stderr(number),
        chance=number.chance,
        samples=len(number.items),
        left_out=0 if number.part else left_out,
        protocol=protocol(task, benchmark, number),
        version=_version(task, benchmark),
        items=number.items,
        strata=number.strata,
        answers=tuple(sha256(each.encode()).hexdigest()[:DIGEST] for each in number.answers),
    )


def stderr(number: Number) -> float | None:
    """Return the standard error of a mean, or of a sum of strata's means; None: one item of one."""
    strata = number.by_stratum()
    if any(len(each) < 2 for each in strata):
        return None
    return math.sqrt(math.fsum(variance(each) / len(each) for each in strata))


def protocol(task: PictureTask, benchmark: Benchmark, number: Number) -> str:
    """Say in one sentence how a number came about."""
    parts = " of each part" if benchmark.limited_by_part and number.part is None else ""
    which = f"all {benchmark.asked_by}"
    if task.limit is not None:
        which = f"the first {task.limit} {benchmark.asked_by}{parts}"
    remark = f" ({number.remark})" if number.remark else ""
    return (
        f"{which}, each asked in one turn with the picture first in the model's chat template, "
        f"greedy generation of at most {benchmark.new_tokens} tokens, {benchmark.rule}{remark}"
    )


def _version(task: PictureTask, benchmark: Benchmark) -> str:
    """Say which data and which definition this is."""
    written = f"task {task.definition[:DIGEST]}"
    if isinstance(benchmark.data, HubData):
        return f"{benchmark.data.repo}@{task.revision} ({written})"
    return f"drawn by seed {task.seed}, {written}"
