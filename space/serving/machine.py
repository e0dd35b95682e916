"""What this machine has for models: memory, of the GPU or else its own, cores, and a dtype.

A Space runs in a container, whose limits are often far below what the host has.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock

from hubq.machine import gpu
from hubq.machine.device import asked_dtype
from hubq.machine.meters import CGROUP, available, installed

ASKING = (
    "from hubq.machine.device import best_device, compute_dtype as c; print(c(best_device().type))"
)
_LOOKING = Lock()  # a cache alone lets two who ask at once look twice


@dataclass(frozen=True)
class Memory:
    """Where models lie: what it is called, its bytes, and how many of these are free now.

    `holds_processes`: what a process has resident is of this memory, as on a machine, not on a GPU.
    """

    name: str
    total: int
    free: Callable[[], int]
    holds_processes: bool = True


def machine_memory() -> Memory:
    """Return the memory of this machine, or of the container where that has less."""
    return Memory("machine", installed(), lambda: available("cpu"))


def cores(cgroups: Path = CGROUP) -> int:
    """Return how many cores this process may use: a container often has few of many."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    path = cgroups / "cpu.max"
    quota, _, period = path.read_text().partition(" ") if path.is_file() else ("max", "", "")
    if not quota.isdigit():
        return usable or 1
    return max(1, min(usable or 1, int(quota) // int(period)))


def number_bytes() -> int:
    """Return the bytes of a number in the dtype that models run in here."""
    return 4 if model_dtype() == "float32" else 2


def model_dtype() -> str:
    """Return the dtype that models run in here, for all of them and as long as this process runs.

    Unless HUBQ_COMPUTE_DTYPE says it, a process of its own looks: this one has no use for torch.
    It looks once, since on a busy machine it might find another, in which answers differ.
    """
    with _LOOKING:
        return asked_dtype() or _measured_dtype()


@cache
def _measured_dtype() -> str:
    asking, environment = [sys.executable, "-c", ASKING], {**os.environ, "PYTHONPATH": with_hubq()}
    done = subprocess.run(asking, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def with_hubq() -> str:
    """Return the path by which a process of ours finds hubq where this one did."""
    import hubq

    package = str(Path(hubq.__file__).parents[1])
    return os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))


def gpu_memory() -> Memory | None:
    """Return the memory of the GPU that models run on, None without one of its own.

    The driver is asked, through NVML: torch would take some of that memory to look.
    """
    first = gpu.memory()
    if first is None:
        return None
    return Memory("GPU", first.total, _free_on_gpu, holds_processes=False)


def _free_on_gpu() -> int:
    """Return the free bytes of that GPU now; none where it is gone."""
    now = gpu.memory()
    return now.free if now else 0
