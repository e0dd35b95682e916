"""What a recipe will do, with all that it names pinned and all that it costs estimated."""

from typing import Any, Literal

from pydantic import Field

from hubq.machine.memory import Place
from hubq.records.record import Record

# Whether downloaders must ask, and who answers; unknown: the card has a form, the repo wasn't seen.
Gate = Literal["auto", "manual", "unknown"]


class BaseCard(Record):
    """The base's gate, and those keys of its card that hold for a copy too."""

    gate: Gate | None = None  # None: open to everybody, or not known to be anything else
    extra_gated: dict[str, Any] = Field(default={}, description="the keys of the form for access")
    language: tuple[str, ...] = ()
    license: str | None = None


class PlannedModule(Record):
    """One weight matrix: what becomes of it and what it will take on disk."""

    name: str
    shape: tuple[int, int]
    quantized: bool
    bits: float  # stored bits a weight
    bytes: int


class PlannedAdaptation(Record):
    """What `adapt` will make of the quantized model."""

    name: str  # the adapter's, in recipes
    makes: Literal["adapter", "checkpoint"]  # checkpoint: also where an adapter is merged
    repo: str  # org/name that publish will create for it
    quantized: str  # org/name of the quantized model, with an @revision where one is known
    parameters: int  # trained, or added in closed form
    added_bits: float  # stored bits a weight of the linears, on top of `linear_bits`
    bytes: int  # of the weights that are published, as far as they are counted here
    peak_memory: int  # bytes of the host's memory
    device_memory: int | None = None  # bytes of a GPU's memory; None: none was there
    compute_dtype: str  # in which the model runs meanwhile
    pairs: str | None = None  # title of what is learnt from; None: nothing is, or it isn't known
    data_license: str | None = None  # of the pairs; None: not known, or there are none


class StayingPart(Record):
    """What is not of the language part of a model that sees: a module, or a tensor by itself."""

    name: str  # such as vision_tower
    parameters: int
    bytes: int


class PlannedVision(Record):
    """The model that sees, whose language part the plan's modules are."""

    title: str  # of its family
    architecture: str  # of the whole
    part: Literal["all", "language"]  # that is quantized and published
    stays: tuple[StayingPart, ...]  # in 16 bits, byte for byte; of a language part left out

    @property
    def parameters(self) -> int:
        """Those of all that stays."""
        return sum(each.parameters for each in self.stays)

    @property
    def bytes(self) -> int:
        """Those of all that stays."""
        return sum(each.bytes for each in self.stays)


class Plan(Record):
    """A recipe with everything pinned and counted. Two plans are equal when they do the same."""

    recipe: dict[str, Any]  # the recipe as validated, JSON values only
    source: str  # the identity of the weights: Hub id@commit, or sha256 of a file or folder index
    base_model: str | None  # Hub id of the base, where one is known
    license: str | None
    architecture: str
    dtype: str  # of the weights as stored: bfloat16, float16 or float32
    modules: tuple[PlannedModule, ...]
    parameters: int
    base_bytes: int  # of the source's weights
    bytes: int  # of the result's weights on disk
    nominal_bits: float  # by which the method's paper calls the setting
    needed_bits: float  # a weight of the linears: codes, signs, flags and scales, a bit a flag
    linear_bits: float  # stored bits a weight over the quantized linears
    model_bits: float  # bits a parameter over the whole file, embeddings included
    peak_memory: int  # bytes of the host's memory
    seconds: float  # a rough estimate for this machine
    repo: str  # org/name that publish will create
    base_card: BaseCard = BaseCard()  # what the base's repo says that its copies carry on
    # In which the calibration text runs through the model. None: there is no such text, or the plan
    # is of before this was written down: then it was bfloat16 on every CPU.
    compute_dtype: str | None = None
    # Of the Hub's data sets that are calibrated on or learnt from: what is asked for, org/name or
    # org/name@revision -> the commit. Empty: there are none, or they could not be looked up.
    data: dict[str, str] = Field(default={})
    remarks: tuple[str, ...] = ()  # how the source is read, where that isn't plain
    device_memory: int | None = None  # bytes of a GPU's memory; None: none was there
    hidden_states: Place | None = None  # where there is room for them; None: there are none
    adaptation: PlannedAdaptation | None = None  # None: the recipe has no section `adapt`
    processes: int = 1  # that quantize together, among which windows and rows are shared out
    vision: PlannedVision | None = None  # None: the model reads text alone

    @property
    def part(self) -> Literal["all", "language"]:
        """Which part of its source a plan is about."""
        return "all" if self.vision is None else self.vision.part

    @property
    def published_architecture(self) -> str:
        """The class of what is published: of a model that sees, the whole's."""
        if self.vision is None or self.vision.part == "language":
            return self.architecture
        return self.vision.architecture
