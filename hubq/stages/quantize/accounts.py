"""What a walk did, as records: its text, what became of each block, the memory that it took."""

import math
import platform
from importlib.metadata import version

import torch
from torch import Tensor

from hubq.machine.meters import peak, reserved_peak
from hubq.machine.packages import installed
from hubq.records.checkpoint import QuantizedLayer
from hubq.records.lock import Lock
from hubq.records.record import Record
from hubq.stages.quantize.resuming import BlockRecord
from hubq.stages.quantize.walk import Outcome


class Calibration(Record):
    """Which tokens calibrate a walk; kept with its finished blocks."""

    text: str  # title and version
    tokens: int


def peaks_on(device: torch.device) -> Tensor:  # (3,) int64
    """Return the most bytes so far: of this process, of its tensors on a GPU, reserved there."""
    on_gpu = peak("cuda") if device.type == "cuda" else 0
    return torch.tensor([peak("cpu"), on_gpu, reserved_peak(device.type) or 0])


def lock_of(device: torch.device) -> Lock:
    """Return what is computed with here: libraries, threads, and the kind of machine."""
    if device.type == "cuda":
        instructions = ".".join(map(str, torch.cuda.get_device_capability(device)))
    else:
        instructions = torch.backends.cpu.get_cpu_capability()
    return Lock(
        python=platform.python_version(),
        hubq=version("hubq"),
        packages=installed("hubq"),
        system=f"{platform.system()} {platform.machine()}",
        instructions=instructions,
        device="cuda" if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
    )


def block_record(outcome: Outcome, packed: dict[str, dict[str, Tensor]]) -> BlockRecord:
    """Return what became of a block's linears, their bits counted from what is written."""
    layers = outcome.quantized
    sizes = {name: sum(each.nbytes for each in own.values()) for name, own in packed.items()}
    return BlockRecord(
        bits={name: 8 * sizes[name] / math.prod(layers[name].shape) for name in layers},
        needed={name: layer.theoretical_bits() for name, layer in layers.items()},
        errors=outcome.errors,
        weight_errors=outcome.weight_errors,
        facts={name: dict(layer.facts) for name, layer in layers.items() if layer.facts},
    )


def layers_of(record: BlockRecord) -> list[QuantizedLayer]:
    """Return what the checkpoint says of a block's linears."""
    return [
        QuantizedLayer(
            name=name,
            bits=bits,
            needed_bits=record.needed[name],
            error=record.errors.get(name),
            weight_error=record.weight_errors.get(name),
            facts=record.facts.get(name, {}),
        )
        for name, bits in record.bits.items()
    ]
