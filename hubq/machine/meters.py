"""What work takes of this machine: cores that others held, joules, memory."""

import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from hubq.machine.gpu import DeviceMemory

THREADS = Path("/proc/self/task")  # each with its schedstat: ns run, ns waited for a core, turns
POWERCAP = Path("/sys/class/powercap")
STATUS = Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")
# Files of a container of cgroup 2, and of 1.
LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
USES = ("memory.current", "memory/memory.usage_in_bytes")
STATISTICS = ("memory.stat", "memory/memory.stat")
RECLAIMED = ("total_inactive_file", "inactive_file")  # page cache, which the kernel gives back

Meter = Callable[[], float]  # joules since the meter was made


class Contention:
    """How long the threads of this process wait for a core, from now on."""

    def __init__(self, threads: Path = THREADS) -> None:
        self.threads = threads
        self.before = self._waited()

    def share(self, seconds: float) -> float | None:
        """Return the share of some seconds for which the slowest thread waited; None: not told."""
        waited = [now - self.before.get(thread, 0) for thread, now in self._waited().items()]
        return min(1.0, max(waited) / 1e9 / seconds) if waited else None

    def _waited(self) -> dict[str, int]:
        """Read how long each thread has waited, in nanoseconds; nothing where it isn't told."""
        files = self.threads.glob("*/schedstat")
        return {file.parent.name: int(file.read_text().split()[1]) for file in files}


def meter(device: str) -> Meter | None:
    """Return what counts the joules of the whole device from now; None where none is told."""
    return _of_gpu() if device == "cuda" else Packages.found(POWERCAP)


class Packages:
    """The energy of all processor packages, by RAPL; the counters' turnovers are made up for.

    A counter turns over after minutes under full load: call it more often than that.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.last = {folder: _read(folder / "energy_uj") for folder in folders}
        self.ranges = {folder: _read(folder / "max_energy_range_uj") for folder in folders}
        self.spent = 0  # microjoules since the first reading

    @classmethod
    def found(cls, powercap: Path) -> "Packages | None":
        """Return a machine's packages; None where it has none or doesn't let us read them.

        Subzones (intel-rapl:0:1) are parts of a package, and psys holds more than processors.
        """
        zones = sorted(powercap.glob("intel-rapl:[0-9]*"))
        try:
            named = {zone: (zone / "name").read_text() for zone in zones}
            packages = [zone for zone, name in named.items() if name.startswith("package")]
            return cls(packages) if packages else None
        except (OSError, ValueError):  # since 2020 only root may read the counters
            return None

    def __call__(self) -> float:
        """Return the joules since the first reading."""
        for folder, before in self.last.items():
            now = _read(folder / "energy_uj")
            self.spent += now - before if now >= before else now - before + self.ranges[folder]
            self.last[folder] = now
        return self.spent / 1e6


def _read(path: Path) -> int:
    """Read a counter."""
    return int(path.read_text())


def _of_gpu() -> Meter | None:
    """Return the counter of the current GPU, through NVML where its package is installed."""
    try:
        import pynvml
    except ImportError:
        return None
    import torch

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        before = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)  # in millijoules, since Volta
    except pynvml.NVMLError:
        return None
    return lambda: (pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) - before) / 1000


def held(device: str) -> int:
    """Return the bytes of this process, or of its tensors on a GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.memory_allocated()
    return int(psutil.Process().memory_info().rss)


def peak(device: str) -> int:
    """Return the most bytes that this process, or its tensors on a GPU, held so far.

    Of a GPU it is since `reset_peaks`.
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if STATUS.is_file():
        # Not getrusage: on Linux it counts what the parent held when it started this process.
        lines = STATUS.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource  # Windows has none

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def reserved_peak(device: str) -> int | None:
    """Return the most bytes that torch kept of a GPU so far, free ones among them; None: a CPU."""
    if device != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_reserved()


def reset_peaks(device: str) -> None:
    """Let the peaks of a GPU count from now on; a process's own is kept from its start."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def device_memory() -> DeviceMemory:
    """Return the current GPU's memory; what torch keeps of it unused is free for us."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return DeviceMemory(total, free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


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
