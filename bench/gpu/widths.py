"""Every method on four blocks of LLaMA3-8B's widths: its time by part, its memory, and the floor.

The floor is one forward pass of all tokens and one triangle of XᵀX for each distinct input, at the
rate of the device's largest products in bfloat16. What is trained comes last.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from memory import shapes
from quantize import PARTS, least

from gpu.findings import Finding, at_most, in_turn, told
from gpu.models import Setting, Subject, runnable
from hubq.machine.device import synchronize
from hubq.methods import method_class

SIDE = 8192  # of the product that is timed
BLOCKS = 4


def widths(setting: Setting) -> Iterator[Finding]:
    """Yield for each method its time beside the floor, and its peaks beside the plan's."""
    subject = setting.wide("8b", BLOCKS)
    least_seconds = operations(subject) / rate(setting)
    names = ["gptq"] if setting.small else runnable()[0]  # small, `blocks` has run the others

    def one(name: str) -> Iterator[Finding]:
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
        yield from costs(name, subject, setting.folder / "widths" / name, least_seconds)

    yield from in_turn(sorted(names, key=lambda name: method_class(name).tunes), one)


def costs(name: str, subject: Subject, run: Path, floor: float) -> Iterator[Finding]:
    """Quantize by a method, and yield what that took."""
    planned = subject.planned(name, run)
    done = subject.quantized(name, run)
    parts = done.seconds_by_part
    spent = ", ".join(f"{part} {parts[part]:.1f}" for part in (*PARTS, "teacher") if part in parts)
    below = floor if method_class(name).needs else 0.0
    yield told(f"{name}, seconds", f"{done.seconds:.1f}: {spent}", f"floor {below:.1f}")
    if done.device_memory is None:
        return
    assert planned.device_memory is not None
    reserved = f"GB planned, {(done.device_reserved or 0) / 1e9:.2f} GB reserved"
    yield at_most(f"{name}, GPU memory", done.device_memory / 1e9, planned.device_memory / 1e9,
                  reserved)  # fmt: skip


def operations(subject: Subject) -> float:
    """Count what a forward pass and the Gram matrices of all blocks take."""
    config = subject.config
    columns = [config["hidden_size"]] * 3 + [config["intermediate_size"]]
    products = sum(2 * out * inner for out, inner in shapes(config).values())
    grams = sum(width**2 for width in columns)
    blocks: int = config["num_hidden_layers"]
    return float(blocks * subject.tokens * (products + grams))


def rate(setting: Setting) -> float:
    """Return the operations a second of a large product in bfloat16."""
    side = 256 if setting.small else SIDE
    factor = torch.ones(side, side, dtype=torch.bfloat16, device=setting.device)

    def product() -> None:
        factor @ factor
        synchronize(setting.device.type)

    product()
    return float(2 * side**3) / least(product)
