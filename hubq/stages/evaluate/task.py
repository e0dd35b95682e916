"""The contract of a measurement: what a worker is asked, what it answers, and what it holds.

Plain records, importable without torch. A kind of measurement is a `Task` in a file of its own in
`measurements/`; the recipe asks for it by a key of `evaluate`, or by its name in `evaluate.tasks`.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from hubq.machine.files import alone_with, cache_folder, write_atomically
from hubq.machine.progress import Progress
from hubq.records.recipe_evaluate import Engine, EvaluateSection, TaskSection
from hubq.records.record import Record
from hubq.records.report import Batches, Better, Cost, Dimension, Divergence
from hubq.sources.task_names import is_offline
from hubq.stages.evaluate.inference.passes import Passes

PLACES = frozenset({"states", "reference"})  # in a task: where things lie, not what they are


class Score(Record):
    """One number measured of one model, with what pairs it with another model's."""

    task: str
    part_of: str | None = None  # the group that the task was measured for
    dataset: str
    metric: str
    better: Better
    dimension: Dimension
    value: float
    stderr: float | None
    chance: float | None = None  # what guessing gives; None: not known, or there is no such thing
    samples: int
    left_out: int = 0  # rows of the data that hold no usable item
    protocol: str
    version: str
    # The metric of each item, in order (perplexity: each window's loss in nats). Empty where the
    # items don't determine the number: BLEU of a corpus, a bias score, a mean of tasks' means.
    items: tuple[float, ...] = ()
    # The stratum of each item, where the number is the sum of the strata's means: MME's categories.
    strata: tuple[int, ...] = ()
    # What was answered to each item: the index of the choice, or a digest of the text. Empty where
    # no single answer is taken, and where the task scores in a way of its own.
    answers: tuple[str, ...] = ()
    batches: Batches | None = None  # None: a CPU, where they are constant


class Found(Record):
    """What one task finds for one model."""

    scores: tuple[Score, ...] = ()  # each becomes a Measurement, beside the base's
    divergence: Divergence | None = None
    cost: Cost | None = None
    engine: str | None = None  # of a cost: what ran the model, with its version


class Outcome(Found):
    """What one task gave for one model, and how; its file is the cache entry."""

    loader: str
    seconds: float
    by_blocks: bool = False  # whether the blocks came one at a time, as the model doesn't fit


@dataclass(frozen=True)
class MeasuredModel:
    """A model in the memory of the process that measures it."""

    passes: Passes  # the model and its folder, and the states that several tasks share
    device: str
    dtype: str
    load_seconds: float
    memory_loaded: int  # bytes
    by_blocks: bool = False  # whether its blocks lie on the disk


class Task(Record):
    """One measurement of one model, known by all that can change its outcome."""

    kind: str  # a Literal, the name of the file: by it a worker finds the class
    # To be raised when the same request would now give another outcome: old measurements of that
    # kind then don't count, and those of other kinds still do.
    protocol_version: ClassVar[int]
    alone: ClassVar[bool] = False  # whether it is timed, in a process that does nothing else

    @classmethod
    def asked(cls, task: TaskSection, section: EvaluateSection) -> "Task":
        """Return what a recipe asks for that names this kind in `evaluate.tasks`."""
        raise NotImplementedError(f"{cls.__name__} is asked for by a key of its own")

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars and error messages."""
        return self.kind

    @property
    def online(self) -> bool:
        """Whether its data comes from the Hub."""
        return False

    @property
    def loads_itself(self) -> bool:
        """Whether it loads the model itself, in an engine of its own."""
        return False

    @property
    def writes(self) -> bool:
        """Whether the model writes texts, token by token, for which it must be whole in memory."""
        return False

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Measure a model, in a worker; what the outcome's file can't hold may lie beside it."""
        raise NotImplementedError


class TextTask(Task):
    """A task that sends the first windows of a text through the model."""

    dataset: str
    text: str  # sha256 of the text, which names its file
    length: int  # tokens a window

    @property
    def most(self) -> int | None:
        """How many windows it reads at most; None: all."""
        raise NotImplementedError


class HarnessTask(Task):
    """One of lm-eval's tasks or of ours: multiple choice, and generation scored by a rule."""

    name: str
    definition: str | None  # sha256 of our own definition; lm-eval's are known by its version
    data: str | None = None  # sha256 of the file in a wheel that one of ours is pinned to
    limit: int | None = Field(ge=1)  # items, of each member of a group
    seed: int
    shots: int | None = Field(None, ge=0)  # examples before each item; None: as the task says
    chat_template: bool = False
    engine: Engine = "transformers"  # of texts that are written; others are asked of transformers

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return self.name

    @property
    def online(self) -> bool:
        """Whether the items come from the Hub."""
        return not is_offline(self.name)


def keep_text(text: str) -> str:
    """Put a text where workers find it; return its sha256."""
    content = text.encode()
    digest = sha256(content).hexdigest()
    path = text_file(digest)
    with alone_with(path):
        if not path.is_file():
            write_atomically(path, content)
    return digest


def text_file(digest: str) -> Path:
    """Return where the text of a sha256 lies."""
    return cache_folder("texts") / f"{digest}.txt"


def states_file(outcome: Path) -> Path:
    """Return where the hidden states of a HiddenTask lie: beside its outcome."""
    return outcome.with_suffix(".safetensors")
