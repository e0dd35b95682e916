"""The stage that makes the checkpoint: walk the model, pack what the method chose, write shards."""

import shutil
from pathlib import Path
from time import perf_counter

from hubq.client import Client
from hubq.plan import Plan
from hubq.progress import SILENT, Progress
from hubq.prompting import Prompting
from hubq.record import Record


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
    device: str
    versions: dict[str, str]
    compute_dtype: str | None = None  # as in the plan, and what it means where it is None


def quantize(plan: Plan, run: Path, client: Client, progress: Progress = SILENT) -> Checkpoint:
    """Write run/model and run/checkpoint.json; continue where a killed run stopped."""
    from hubq.quantization import Quantization

    begin = perf_counter()
    work = Quantization(plan, run, client, progress)
    work.walk(progress)
    folder = work.assemble(run / "model")
    checkpoint = work.checkpoint(folder, perf_counter() - begin)
    checkpoint.save(run / "checkpoint.json")
    shutil.rmtree(work.finished.folder)
    return checkpoint
