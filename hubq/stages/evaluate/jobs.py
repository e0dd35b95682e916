"""What the worker process is asked and what it answers: plain records, importable without torch."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hubq.machine.files import cache_folder, write_atomically
from hubq.records.record import Record
from hubq.records.report import Better, Cost, Dimension, Divergence
from hubq.sources.task_names import is_offline

# Raise a kind's number when the same request would now give another outcome: old measurements of
# that kind then don't count, and those of other kinds still do.
PROTOCOL_VERSIONS: Mapping[str, int] = {
    "perplexity": 3,
    "choice": 4,  # 4 knows what guessing gives, and that a bias is best at zero
    "load": 3,
    "hidden": 3,
    "divergence": 4,  # 4 knows that few windows tell less
    "efficiency": 3,
}
PLACES = frozenset({"states", "reference"})  # in a task: where things lie, not what they are


class PerplexityTask(Record):
    """Perplexity over windows of a text that lies in hubq's cache."""

    kind: Literal["perplexity"] = "perplexity"
    dataset: str
    version: str
    text: str  # sha256 of the text, which names its file
    length: int
    windows: int | None  # just so many; None: all, or at most so many as follows
    at_most: int | None = None

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"perplexity on {self.dataset}"


class ChoiceTask(Record):
    """One of lm-eval's tasks or of ours: multiple choice, and generation scored by a rule."""

    kind: Literal["choice"] = "choice"
    name: str
    definition: str | None  # sha256 of our own definition; lm-eval's are known by its version
    data: str | None = None  # sha256 of the file in a wheel that one of ours is pinned to
    limit: int | None = Field(ge=1)  # items, of each member of a group
    seed: int
    shots: int | None = Field(None, ge=0)  # examples before each item; None: as the task says
    chat_template: bool = False

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return self.name

    @property
    def online(self) -> bool:
        """Whether the items come from the Hub."""
        return not is_offline(self.name)


class LoadTask(Record):
    """Only load the model and run two tokens: even with nothing to measure, it must work."""

    kind: Literal["load"] = "load"

    @property
    def title(self) -> str:
        """The task in a few words, for error messages."""
        return "loading"


class HiddenTask(Record):
    """Keep the last hidden states over a text: with the head, all next-token distributions."""

    kind: Literal["hidden"] = "hidden"
    dataset: str
    text: str  # sha256 of the text, which names its file
    length: int  # tokens a window
    windows: int  # at most
    precision: str | None = None  # the dtype that the model runs in; None: the job's

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"distributions on {self.dataset}"


class DivergenceTask(Record):
    """Compare next-token distributions with those of a model whose hidden states were kept."""

    kind: Literal["divergence"] = "divergence"
    dataset: str
    text: str
    length: int
    windows: int  # at most
    beside: str  # digest of the reference's files
    precision: str  # the dtype that the reference ran in
    states: Path  # of the reference, by its HiddenTask
    reference: Path  # the reference's folder, for its head

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"divergence on {self.dataset}"


class EfficiencyTask(Record):
    """Time and memory of generating, in a process that does nothing else."""

    kind: Literal["efficiency"] = "efficiency"
    batch: int
    prompt: int  # tokens a row
    output: int  # tokens a row
    repetitions: int
    hardware: str  # a cache may be shared by machines
    beside: str  # digest of the model that it is compared with: both are measured in one run

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"{self.output} tokens after {self.prompt}"


Task = Annotated[
    PerplexityTask | ChoiceTask | LoadTask | HiddenTask | DivergenceTask | EfficiencyTask,
    Field(discriminator="kind"),
]


TextTask = PerplexityTask | HiddenTask | DivergenceTask


class Order(Record):
    """A task, and the file that its outcome goes to."""

    task: Task
    outcome: Path

    @property
    def group(self) -> str:
        """What one worker carries out: all that reads one text, else the task alone."""
        return self.task.text if isinstance(self.task, TextTask) else self.outcome.stem


class Job(Record):
    """All that is measured of one model, by one worker or by several that share it."""

    folder: Path
    device: str
    dtype: str
    orders: tuple[Order, ...]
    threads: int | None = None  # of this worker; None: as many as the machine says
    shared: Path | None = (
        None  # a folder in which each worker takes what it does; None: it is alone
    )


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
    # What was answered to each item: the index of the choice, or a digest of the text. Empty where
    # no single answer is taken, and where the task scores in a way of its own.
    answers: tuple[str, ...] = ()


class Outcome(Record):
    """What one task gave for one model; its file is the cache entry."""

    scores: tuple[Score, ...] = ()
    divergence: Divergence | None = None
    cost: Cost | None = None
    engine: str | None = None  # of a cost: what ran the model, with its version
    loader: str
    seconds: float


def keep_text(text: str) -> str:
    """Put a text where workers find it; return its sha256."""
    content = text.encode()
    digest = sha256(content).hexdigest()
    path = text_file(digest)
    if not path.is_file():
        write_atomically(path, content)
    return digest


def text_file(digest: str) -> Path:
    """Return where the text of a sha256 lies."""
    return cache_folder("texts") / f"{digest}.txt"


def states_file(outcome: Path) -> Path:
    """Return where the hidden states of a HiddenTask lie: beside its outcome."""
    return outcome.with_suffix(".safetensors")
