"""Where to compute, in which dtype, and how memory that is freed is kept.

CPUs are not alike: one with AVX512-BF16, AMX or Arm's BF16 multiplies in bfloat16 several times
faster than in float32, others, most laptops among them, several times slower. What a processor
lists isn't what a library can use of it, so a product of each kind is timed, which takes some
milliseconds: the processor's time on one thread, in turns and the least of each, so that other work
on the machine doesn't count.
"""

import ctypes
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from hubq.errors import UserError

if TYPE_CHECKING:
    import torch

Dtype = Literal["bfloat16", "float16", "float32"]  # as torch spells them
VARIABLE = "HUBQ_COMPUTE_DTYPE"
CLEARLY = 0.9  # of float32's time; bfloat16 that is hardly faster isn't worth its rounding
SIZES = (128, 256, 256)  # of the products that are timed: rows, inputs, outputs
TURNS = 5
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's mallopt
MAPPINGS = 65536  # glibc's own limit to blocks that come and go
LARGE = 4 << 20  # bytes that go back to the kernel at once, where memory is scarce
LARGEST = 32 << 20  # bytes: glibc takes no higher threshold; larger blocks still come and go


class FloatType(NamedTuple):
    """A dtype of weights, as files hold it."""

    header: str  # what headers of safetensors call it
    width: int  # bytes a number


# Of weights that are not quantized; `hubq/sources/tensor_headers.py` has all that files may hold.
DTYPES: dict[str, FloatType] = {
    "bfloat16": FloatType("BF16", 2),
    "float16": FloatType("F16", 2),
    "float32": FloatType("F32", 4),
}


class Computing(NamedTuple):
    """The dtype that a model runs in, and why."""

    dtype: str
    reason: str


def dtype_name(dtype: "torch.dtype") -> str:
    """Return how records and files spell a dtype: bfloat16, float8_e4m3fn, ..."""
    return str(dtype).removeprefix("torch.")


def best_device() -> "torch.device":
    """Return the GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: str, stored: str = "bfloat16") -> str:
    """Return the dtype that a model of this machine runs forward in, by what its file stores.

    `device` is cpu or cuda. Raises UserError where HUBQ_COMPUTE_DTYPE names no dtype.
    """
    return computing(device, stored).dtype


def computing(device: str, stored: str = "bfloat16") -> Computing:
    """Return that dtype, and why it is this one; raises as `compute_dtype` does."""
    if (asked := asked_dtype()) is not None:
        return Computing(asked, f"{VARIABLE} asks for it")
    if device == "cpu":
        return fast_on_cpu()
    if stored == "float32":
        return Computing("bfloat16", "a GPU is slow in float32")
    return Computing(stored, "a GPU runs models as they are stored")


def measuring_dtype(stored: str) -> Computing:
    """Return the dtype that a model and its base are measured in, and why.

    None that rounds what their files store, unless HUBQ_COMPUTE_DTYPE asks for it: in bfloat16 a
    base that is stored in float16 or float32 would lose more than many a quantization takes. So a
    CPU measures such a base in float32, as it emulates float16.
    """
    device = best_device().type
    if asked_dtype() is not None or (device == "cpu" and stored == "bfloat16"):
        return computing(device, stored)
    if device == "cpu":
        return Computing("float32", f"it holds every {stored} value, and a CPU can compute in it")
    return Computing(stored, "a GPU runs models as they are stored")


def asked_dtype() -> str | None:
    """Return what HUBQ_COMPUTE_DTYPE asks for, if it is set; raise UserError for no dtype."""
    asked = os.environ.get(VARIABLE, "").strip()
    if asked and asked not in DTYPES:
        *others, last = DTYPES
        raise UserError(
            f"{VARIABLE} is {asked!r}: set it to {', '.join(others)} or {last}, or "
            "leave it unset to use the dtype this machine is fastest in"
        )
    return asked or None


def fast_on_cpu() -> Computing:
    """Return the dtype that this CPU is fast in."""
    seconds = _product_seconds()
    return faster(seconds["bfloat16"], seconds["float32"])


def faster(in_bfloat16: float, in_float32: float) -> Computing:
    """Choose by the seconds that one product takes in each."""
    share = in_bfloat16 / in_float32
    return Computing(
        "bfloat16" if share < CLEARLY else "float32",
        f"a product in bfloat16 takes {share:.2g} times as long as in float32 on this CPU",
    )


@cache
def _product_seconds() -> dict[str, float]:
    """Time a product in bfloat16 and one in float32, once in each process."""
    import torch

    rows, inputs, outputs = SIZES
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    least = {"bfloat16": float("inf"), "float32": float("inf")}
    try:
        for name in list(least) * TURNS:
            dtype = getattr(torch, name)
            given, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs)
            weight = weight.to(dtype)
            began = time.thread_time()
            torch.nn.functional.linear(given, weight)
            least[name] = min(least[name], time.thread_time() - began)
    finally:
        torch.set_num_threads(threads)
    return least


def synchronize(device: str) -> None:
    """Wait for the GPU: its work is only queued when a call returns."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def device_title(device: "torch.device") -> str:
    """Name the device for people, and how much of it is used."""
    import torch

    name, threads = hardware(device), torch.get_num_threads()
    if device.type == "cuda":
        return name
    return f"{name}, {threads} thread{'' if threads == 1 else 's'}"


def hardware(device: "torch.device") -> str:
    """Name the GPU or the processor."""
    import torch

    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else _processor()


def _processor() -> str:
    """Name the CPU as the kernel does."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def keep_freed_memory() -> None:
    """Give back what is free now, then tell glibc to keep what is freed; elsewhere, do nothing.

    glibc returns every large block to the kernel at once, and asks for zeroed pages again for the
    next: for the temporary tensors of a forward pass on a CPU that is a third of the time.
    """
    if library := _glibc():
        library.malloc_trim(0)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def largest_kept() -> Iterator[None]:
    """Let glibc keep blocks of any size inside the context; give them back behind it.

    Only for work that asks for the same sizes again and again: others would leave holes.
    """
    library = _glibc()
    if library:
        library.mallopt(M_MMAP_MAX, 0)
    try:
        yield
    finally:
        if library:
            library.mallopt(M_MMAP_MAX, MAPPINGS)
            library.malloc_trim(0)


def return_freed_memory() -> None:
    """Tell glibc to give every large block back at once, and always; elsewhere, do nothing.

    By itself it keeps ever larger ones, in between which others lie: weights that come and go would
    leave holes that in the end are larger than all that is in use.
    """
    library = _glibc()
    if library:
        library.mallopt(M_MMAP_THRESHOLD, LARGE)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    found = hasattr(library, "mallopt") and hasattr(library, "malloc_trim")
    return library if found else None
