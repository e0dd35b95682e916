"""The records of what was measured: every number there is, each with what makes it believable.

Quality is measured of the exported folder and of its base on the same items, by dimension: what the
model knows and can do, whether it stays truthful and fair, and what it costs to run. Differences
are paired item by item; each interval holds 95 % of what chance would make of other items.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.record import Record
from hubq.records.run_folder import MODEL

VERSION: Literal[2] = 2
Dimension = Literal["knowledge", "alignment"]
# zero: a bias score, whose sign says only which way the bias goes
Better = Literal["lower", "higher", "zero"]
OVERFLOW = 1e300  # a perplexity of this is so or more: its loss is beyond what exp can take
BUSY = 0.8  # share of a step in which a GPU that isn't held up computes
CONFIDENCE = 1.96  # standard errors around a mean that hold 95 % of a normal distribution


class Interval(Record):
    """A value, and where 95 % of repetitions with other items would lie; None: not known."""

    value: float
    low: float | None = None
    high: float | None = None


class Flips(Record):
    """Items on which base and result part: what a mean over all items hides."""

    lost: int  # right before, wrong now
    won: int  # wrong before, right now
    changed: int  # another answer, right or wrong


class Batches(Record):
    """How much went through a model at once, which moves its numbers by their rounding."""

    passed: int  # tokens of one forward pass
    kept: int | None  # tokens of a common beginning, once for each row; None: any number
    predicted: int  # tokens whose logits are made at once
    written: int  # tokens of prompts and of texts that are written together


class Measurement(Record):
    """One number of the result beside its base's, with all that a reader needs to believe it."""

    task: str  # perplexity, or an lm-eval task's name
    part_of: str | None = None  # the group that the task was measured for
    dataset: str
    dimension: Dimension = "knowledge"  # the third, efficiency, has a record of its own
    metric: str  # perplexity, acc, acc_norm
    better: Better
    base: float
    base_stderr: float | None
    value: float
    stderr: float | None
    chance: float | None = None  # what guessing gives; None: not known, or there is no such thing
    difference: Interval | None = None  # value - base
    # The share of the base's quality that is left: 1 is all. None: there is no such share, as of a
    # base that does no better than guessing.
    recovery: Interval | None = None
    paired: bool = False  # whether both intervals come from pairs of the same items
    p_value: float | None = None  # of a difference as large by chance alone; McNemar, exact
    flips: Flips | None = None
    samples: int
    left_out: int = 0  # rows of the data that hold no usable item
    protocol: str  # one sentence: windows, shots, normalization
    version: str  # of the task or the data: a task version, a revision, a sha256
    batches: Batches | None = None  # of the result; None: a CPU, where they are constant, not told


class Overall(Record):
    """The plain mean over tasks of knowledge, one accuracy each: what one recovery is of."""

    accuracies: tuple[str, ...]  # task and metric of each, such as "piqa acc_norm"
    base: float
    value: float
    difference: Interval  # value - base, tasks resampled item by item in pairs
    recovery: Interval  # value / base


class LeftOut(Record):
    """An accuracy that the mean over tasks does not take."""

    accuracy: str  # task and metric
    # guessing: the base is no better than that beyond noise, so nothing can be said to be lost;
    # alignment: a ruined model may well answer less by stereotype
    reason: Literal["guessing", "alignment"]


class Divergence(Record):
    """How far one model's next-token distributions are from another's, token by token."""

    tokens: int
    mean: Interval  # Kullback-Leibler divergence in nats: sum p ln(p / q), p the reference's
    median: float
    percentile_99: float
    agreement: Interval  # share of tokens whose likeliest next token is the same


class Fidelity(Record):
    """How closely the result follows its base on one text, and how closely the base itself can."""

    dataset: str
    version: str
    protocol: str
    result: Divergence  # from the base, both in the dtype of the report
    floor: Divergence | None  # the base in that dtype from the base in float32; None: not measured


class Decoding(Record):
    """How one step of decoding ran on a GPU: what a number of tokens per second is made of."""

    graph: bool  # whether a recorded step was replayed; if not, each kernel was launched anew
    reason: str | None = None  # why none was recorded
    step_seconds: float  # by the clock
    busy_seconds: float | None = None  # of these the GPU computed; None: not told

    @property
    def bound_by_launches(self) -> bool | None:
        """Whether the GPU waited for launches more than a fifth of the time; None: not known."""
        return None if self.busy_seconds is None else self.busy_seconds < BUSY * self.step_seconds


class Cost(Record):
    """What one model takes to run."""

    weight_bytes: int  # on disk
    load_seconds: float
    memory_loaded: int  # bytes of this process (CPU) or of the device (GPU) once it is loaded
    memory_peak: int  # bytes likewise, while it loads or generates
    memory_reserved: int | None = None  # the most that torch kept of a GPU; None: a CPU, not told
    memory_host: int | None = None  # on a GPU: the most bytes of the process beside it; likewise
    first_token_seconds: Interval  # median of the repetitions, from the least to the greatest
    tokens_per_second: Interval  # decoded, over all rows of the batch; likewise
    joules_per_token: float | None = None  # of the whole processor or device; None: not told here
    decoding: Decoding | None = None  # None: a CPU, not told
    contention: float | None = None  # share of the time in which others held our cores; likewise


class Efficiency(Record):
    """The costs of the result and of its base, measured one after the other in the same run."""

    batch: int  # rows
    prompt: int  # tokens a row
    output: int  # tokens a row
    repetitions: int
    engine: str  # what ran the model, with its version
    hardware: str
    base: Cost
    result: Cost


class Measured(Record):
    """All that was measured of one model beside its base, and how."""

    version: Literal[2] = VERSION
    measurements: tuple[Measurement, ...]
    overall: Overall | None = None  # None: no accuracy was measured that it could take
    left_out: tuple[LeftOut, ...] = ()  # of the overall mean
    fidelity: Fidelity | None = None
    efficiency: Efficiency | None = None
    loader: str  # what read the folder: transformers, or hubq's reader where that can't
    # Those of which something was measured block by block, as they don't fit into memory whole.
    by_blocks: tuple[Literal["base", "result"], ...] = ()
    device: str
    dtype: str
    versions: dict[str, str]
    seed: int
    seconds: float

    def is_member(self, measurement: Measurement) -> bool:
        """Tell whether a measurement is of a task whose group was measured as well."""
        return any(each.task == measurement.part_of for each in self.measurements)

    @model_validator(mode="before")
    @classmethod
    def _migrate(cls, values: object) -> object:
        """Read a report of version 1; any other than today's is refused for its version."""
        if not isinstance(values, dict) or values.get("version") != 1:
            return values
        measurements = [_migrated(each) for each in values.get("measurements", ())]
        return {**values, "version": VERSION, "measurements": measurements}


class Report(Measured):
    """What was measured of one checkpoint of ours: the single source of a card's numbers."""

    plan: Plan
    checkpoint: Checkpoint

    @property
    def files(self) -> Mapping[str, str]:
        """The files of the model that are published: path in the repo -> sha256."""
        return self.checkpoint.files

    @property
    def folder(self) -> str:
        """Where these lie, in the folder of the run."""
        return MODEL

    @property
    def linear_bits(self) -> float:
        """Stored bits a weight over the quantized linears."""
        return self.checkpoint.linear_bits

    @property
    def model_bits(self) -> float:
        """Stored bits a parameter over all that is loaded."""
        return self.checkpoint.model_bits

    @property
    def weight_bytes(self) -> int:
        """What all weights that are loaded take on the disk."""
        return self.checkpoint.weight_bytes


class Subject(Record):
    """A model that somebody else made, as far as its files tell."""

    name: str  # org/name@commit, or a folder's name
    form: str  # the quantization method that its config.json names; dense where there is none
    weight_bytes: int
    parameters: int  # of the base: packed tensors have other counts
    model_bits: float  # stored bits a parameter over the whole file


class Assessment(Measured):
    """What was measured of any model against any base."""

    subject: Subject
    base: Subject


def _migrated(values: dict[str, Any]) -> dict[str, Any]:
    """Say of a version 1 measurement what it knew of its difference: a paired error, or nothing."""
    kept = {key: each for key, each in values.items() if key != "difference_stderr"}
    above, below = values.get("value", 0), values.get("base", 0)
    if values.get("better") == "lower":
        above, below = below, above
    kept["recovery"] = {"value": above / below} if below else None
    stderr = values.get("difference_stderr")
    if stderr is None:
        return kept
    value, noise = values["value"] - values["base"], CONFIDENCE * stderr
    difference = {"value": value, "low": value - noise, "high": value + noise}
    return {**kept, "difference": difference, "paired": True}
