"""How much memory a process or its GPU holds, held at most, and has left."""

import sys
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")


def held(device: str) -> int:
    """Return the bytes of this process, or of its tensors on a GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.memory_allocated()
    return int(psutil.Process().memory_info().rss)


def peak(device: str) -> int:
    """Return the most bytes that this process, or its tensors on a GPU, held so far."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if STATUS.is_file():
        # Not getrusage: on Linux it counts what the parent held when it started this process.
        lines = STATUS.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available(device: str) -> int:
    """Return the bytes that a new process could take, of this machine or container or of a GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    free = int(psutil.virtual_memory().available)
    limit, used = (_number(CGROUP / f"memory.{name}") for name in ("max", "current"))
    return free if limit is None or used is None else min(free, limit - used)


def _number(path: Path) -> int | None:
    """Read a number from a file of the kernel's; None where there is none, or no limit."""
    word = path.read_text().strip() if path.is_file() else ""
    return int(word) if word.isdigit() else None
