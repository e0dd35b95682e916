"""What became of a checkpoint by `adapt`: what was trained or computed, and how it went."""

from typing import Literal

from hubq.records.lock import Lock
from hubq.records.record import Record
from hubq.records.report import Interval

Makes = Literal["adapter", "checkpoint"]


class Taught(Record):
    """The instruction pairs that were trained on, as they were found."""

    title: str
    version: str  # a revision, or a sha256
    repo: str | None  # Hub id of the data set, where it has one
    license: str | None  # None: the data names none
    template: str
    pairs: int  # trained on
    held_out: int
    left_out: dict[str, int]  # why pairs were not used -> how many
    cut: int  # pairs whose prompt or answer was too long
    tokens: int  # of one pass over the pairs
    answer_tokens: int  # of these, those that the model learns to predict


class Curve(Record):
    """How the loss went: each point is the mean over the steps since the one before."""

    steps: tuple[int, ...]
    losses: tuple[float, ...]  # nats a predicted token
    held_out_steps: tuple[int, ...] = ()
    held_out_losses: tuple[float, ...] = ()


class HeldOut(Record):
    """The loss on pairs that were not trained on, before and after."""

    pairs: int
    tokens: int  # predicted
    before: float  # nats a token, mean over pairs
    after: float
    difference: Interval  # after - before, pair by pair


class AdaptedLayer(Record):
    """What became of one linear layer."""

    name: str
    facts: dict[str, float]  # such as the errors before and after a correction


class Adaptation(Record):
    """The finished folder run/adapted/model: every published file by sha256, and its making."""

    name: str  # the adapter's, in recipes
    makes: Makes  # adapter: the files are those of its folder `adapter`
    merged: Literal["16-bit", "requantized"] | None = None
    files: dict[str, str]  # path in the published folder -> sha256
    weight_bytes: int  # of all its safetensors files
    parameters: int  # trained, or added in closed form
    added_bits: float  # stored bits a weight of the linears, on top of those of the checkpoint
    layers: tuple[AdaptedLayer, ...] = ()
    taught: Taught | None = None  # None: nothing was trained
    steps: int = 0
    curve: Curve | None = None
    held_out: HeldOut | None = None
    calibration_tokens: int = 0
    calibration_text: str | None = None  # title and version of the text, for the card
    facts: tuple[str, ...] = ()  # a sentence each, for the card
    seconds: float
    seconds_by_part: dict[str, float]
    peak_memory: int  # bytes, resident
    device_memory: int | None = None  # bytes that tensors took of the GPU at most; None: a CPU
    device: str
    versions: dict[str, str]
    compute_dtype: str
    lock: Lock | None = None  # None: not recorded, in adaptations of before
