"""How much memory a process or its GPU holds, held at most, and has left."""

import sys
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")
# Files of a container of cgroup 2, and of 1.
LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
USES = ("memory.current", "memory/memory.usage_in_bytes")
STATISTICS = ("memory.stat", "memory/memory.stat")
RECLAIMED = ("total_inactive_file", "inactive_file")  # page cache, which the kernel gives back


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
    limit = _limit()
    return free if limit is None else min(free, limit - _used())


def installed() -> int:
    """Return the bytes of this machine, or of the container where that has less."""
    total = int(psutil.virtual_memory().total)
    return min(total, _limit() or total)


def _limit() -> int | None:
    """Return the bytes that a container may use; None without one that has less than its host."""
    limit = _number(LIMITS)
    return None if limit is None or limit > psutil.virtual_memory().total else limit


def _used() -> int:
    """Return the bytes that a container can't give back."""
    path = next((CGROUP / name for name in STATISTICS if (CGROUP / name).is_file()), None)
    lines = dict(line.split() for line in path.read_text().splitlines()) if path else {}
    cache = next((int(lines[name]) for name in RECLAIMED if name in lines), 0)
    return (_number(USES) or 0) - cache


def _number(names: tuple[str, ...]) -> int | None:
    """Read the first of the kernel's files that there is; None where none holds a number."""
    texts = [(CGROUP / name).read_text().strip() for name in names if (CGROUP / name).is_file()]
    return next((int(text) for text in texts if text.isdigit()), None)
