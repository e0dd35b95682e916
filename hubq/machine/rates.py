"""How fast a device is: timed once in about two seconds, and kept by its name.

The rates are those of what quantizing and measuring are made of: products of matrices by dtype and
attention, at the widths of a model, XᵀX, work that reads and writes every number once, files, and
the way to a GPU. On a CPU the processor's own time is taken, so that other work doesn't count.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from hubq.machine.device import device_title, synchronize
from hubq.machine.files import alone_with, cache_folder, sha256_of, write_atomically

if TYPE_CHECKING:
    import torch

VERSION = 1  # of what is timed
TURNS = 3  # of which the fastest counts
TOKENS = {"cpu": 512, "cuda": 8192}  # the rows of the products that are timed
WINDOW = 512  # the tokens that attend to one another in what is timed
HEAD = 64  # the width of a head in it
WIDEST = 2048  # beyond it products run at the same rate, and would take a CPU seconds
PASSED = {"cpu": 1 << 22, "cuda": 1 << 28}  # float32 numbers that are gone through
WRITTEN = 1 << 25  # bytes of a file: 32 MB


@dataclass(frozen=True)
class Rates:
    """What a device does in a second."""

    device: str  # as people know it
    # Operations, of which a multiplication and a sum are two, by dtype.
    products: dict[str, float]
    attention: dict[str, float]  # likewise, those of causal attention alone
    gram: float  # operations of XᵀX in float32 with factors of 16 bits
    passed: float  # bytes that are read and written where each number is used once
    files: float  # bytes that are written, read and hashed
    transferred: float | None = None  # bytes from the host to the device; None: it is the host


@cache
def rates_of(device: "torch.device", widths: tuple[int, int]) -> Rates:
    """Return a device's rates for a model of these widths (hidden states, feed-forward).

    Those that were not timed before are timed now.
    """
    import torch

    if device.type == "cpu":
        widths = (min(widths[0], WIDEST), min(widths[1], WIDEST))
    asked = [device_title(device), torch.__version__, *widths]
    return Rates(**kept(asked, lambda: asdict(_timed(device, widths))))


def kept(asked: Sequence[object], measure: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON
    """Return what was measured before for all that is asked, JSON values; else measure it now."""
    key = hashlib.sha256(json.dumps([VERSION, *asked]).encode()).hexdigest()
    path = cache_folder("machine") / f"{key}.json"
    with alone_with(path):
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError):  # not kept, or damaged: a matter of two seconds
            found = measure()
            write_atomically(path, json.dumps(found).encode())
            return found


def _timed(device: "torch.device", widths: tuple[int, int]) -> Rates:
    """Time everything."""
    import torch

    tokens, (inputs, outputs) = TOKENS[device.type], widths
    dtypes = ("bfloat16", "float32", *(("float16",) if device.type == "cuda" else ()))
    types = {name: getattr(torch, name) for name in dtypes}
    operations = 2 * tokens * inputs * outputs
    products = {name: operations / _product(device, widths, each) for name, each in types.items()}
    attending = 2 * tokens * WINDOW * inputs  # half of all pairs, for scores and for values
    return Rates(
        device=device_title(device),
        products=products,
        attention={
            name: attending / _attention(device, inputs, each) for name, each in types.items()
        },
        gram=2 * tokens * inputs**2 / _gram(device, inputs),
        passed=8 * PASSED[device.type] / _pass(device),
        files=WRITTEN / _file(),
        transferred=None if device.type == "cpu" else WRITTEN / _transfer(device),
    )


def _product(device: "torch.device", widths: tuple[int, int], dtype: "torch.dtype") -> float:
    """Return the seconds of one product."""
    import torch

    given = torch.ones(TOKENS[device.type], widths[0], dtype=dtype, device=device)
    weight = torch.ones(*reversed(widths), dtype=dtype, device=device)
    return _seconds(lambda: torch.nn.functional.linear(given, weight), device)


def _attention(device: "torch.device", width: int, dtype: "torch.dtype") -> float:
    """Return the seconds in which windows of tokens attend to what stands before them."""
    import torch

    shape = (TOKENS[device.type] // WINDOW, max(1, width // HEAD), WINDOW, HEAD)
    each = torch.ones(shape, dtype=dtype, device=device)
    attend = torch.nn.functional.scaled_dot_product_attention
    return _seconds(lambda: attend(each, each, each, is_causal=True), device)


def _gram(device: "torch.device", width: int) -> float:
    """Return the seconds of one XᵀX."""
    import torch

    tokens = torch.ones(TOKENS[device.type], width, device=device)
    total = torch.zeros(width, width, device=device)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        return _seconds(lambda: total.addmm_(tokens.T, tokens), device)
    finally:
        torch.set_float32_matmul_precision(before)


def _pass(device: "torch.device") -> float:
    """Return the seconds of going through many numbers once."""
    import torch

    numbers = torch.ones(PASSED[device.type], device=device)
    return _seconds(lambda: numbers.mul_(1.0), device)


def _transfer(device: "torch.device") -> float:
    """Return the seconds of bringing a file's bytes to a GPU."""
    import torch

    given = torch.ones(WRITTEN, dtype=torch.uint8).pin_memory()
    return _seconds(lambda: given.to(device), device)


def _file() -> float:
    """Return the seconds of writing a file, and of reading it once to hash it."""
    path, content = cache_folder("machine") / f"{os.getpid()}.tmp", bytes(WRITTEN)

    def turn() -> float:
        began = time.perf_counter()
        path.write_bytes(content)
        sha256_of(path)
        return time.perf_counter() - began

    try:
        return min(turn() for _ in range(TURNS))
    finally:
        path.unlink(missing_ok=True)


def _seconds(work: Callable[[], object], device: "torch.device") -> float:
    """Return the seconds of the fastest of some turns, after one that doesn't count."""
    clock, threads = clock_of(device)
    least = float("inf")
    for turn in range(1 + TURNS):
        synchronize(device.type)
        began = clock()
        work()
        synchronize(device.type)
        if turn:
            least = min(least, (clock() - began) / threads)
    return least


def clock_of(device: "torch.device") -> tuple[Callable[[], float], int]:
    """Return what tells the seconds that a device has worked, and by how many it counts them."""
    import torch

    if device.type == "cpu":
        return time.process_time, torch.get_num_threads()
    return time.perf_counter, 1
