"""What became of a plan: the quantized model, every file by its sha256, and the bits as stored."""

from hubq.records.lock import Lock
from hubq.records.record import Record


class Prompting(Record):
    """What a folder says of its prompts; the example is the template's own work."""

    template: str | None  # sha256 of the chat template's text; None: the model has none
    example: str | None  # the question laid out, up to where the answer begins
    sampling: dict[str, bool | int | float]  # of generation_config.json, what it sets
    same: tuple[str, ...]  # files of the tokenizer that are the base's, byte for byte
    changed: tuple[str, ...]  # those that are not


class QuantizedLayer(Record):
    """What became of one linear layer."""

    name: str
    bits: float  # stored, a weight
    needed_bits: float  # a weight: codes, signs, flags and scales, a bit a flag
    error: float | None  # ||(W - Q) X||² / ||W X||² on the calibration tokens; None: not measured
    weight_error: float | None = None  # ||W - Q||² / ||W||², where there is no error of the outputs
    facts: dict[str, float]  # what the solver had to do, such as a raised damping


class Checkpoint(Record):
    """The finished folder run/model: every file by sha256, and the bits as stored."""

    files: dict[str, str]  # path in the folder -> sha256
    layers: tuple[QuantizedLayer, ...]
    weight_bytes: int  # of all safetensors files
    needed_bits: float  # bits a weight that define the quantized linears
    linear_bits: float  # stored bits a weight over the quantized linears
    model_bits: float  # stored bits a parameter over the whole file
    calibration_tokens: int
    calibration_text: str | None = None  # title and version of the text, for the card
    facts: tuple[str, ...] = ()  # what is not as in the base, a sentence each
    prompting: Prompting | None = None  # None: not recorded, in checkpoints of before
    seconds: float
    seconds_by_part: dict[str, float]  # of the run that finished: forward, hessian, ...
    peak_memory: int  # bytes, resident
    device_memory: int | None = None  # bytes that tensors took of the GPU at most; None: a CPU
    device_reserved: int | None = None  # bytes that torch kept of it at most, free ones included
    device: str
    versions: dict[str, str]
    compute_dtype: str | None = None  # as in the plan, and what it means where it is None
    lock: Lock | None = None  # None: not recorded, in checkpoints of before
