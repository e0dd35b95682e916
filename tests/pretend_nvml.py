"""NVIDIA's driver as the module of nvidia-ml-py shows it, with GPUs that a test names."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple


class NVMLError(Exception):
    """What the module raises."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - as the module spells it
    """Said of what a GPU does not tell, where nvidia-smi prints [N/A]."""


class NVMLError_NotFound(NVMLError):  # noqa: N801, N818
    """Said where there is no such device."""


class MemoryInfo(NamedTuple):
    """Bytes."""

    total: int
    free: int


@dataclass
class Gpu:
    """A GPU or a slice of one: its name, its bytes, and its slices where it is divided."""

    uuid: str
    total: int | None = 0  # None: it shares the machine's memory
    free: int = 0
    joules: float | None = None  # so far; None: it doesn't count
    slices: list["Gpu"] = field(default_factory=list)


class PretendNvml(ModuleType):
    """The functions of the module that hubq calls."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_NotFound = NVMLError_NotFound

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.gpus: list[Gpu] = []

    def nvmlInit(self) -> None:  # noqa: N802 - as the module spells it
        """Begin."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Count GPUs, not slices."""
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        """Return a GPU."""
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:  # noqa: N802
        """Return a GPU or a slice by its whole name."""
        for gpu in self.gpus:
            for each in (gpu, *gpu.slices):
                if each.uuid == uuid:
                    return each
        raise NVMLError_NotFound

    def nvmlDeviceGetUUID(self, gpu: Gpu) -> str:  # noqa: N802
        """Return a GPU's name."""
        return gpu.uuid

    def nvmlDeviceGetMigMode(self, gpu: Gpu) -> list[int]:  # noqa: N802
        """Say whether it is divided now, and after a reset."""
        if not gpu.slices:
            raise NVMLError_NotSupported
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Gpu) -> int:  # noqa: N802
        """Count the places for slices, most of them empty."""
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Gpu, index: int) -> Gpu:  # noqa: N802
        """Return a slice; the first place is empty."""
        if not 0 < index <= len(gpu.slices):
            raise NVMLError_NotFound
        return gpu.slices[index - 1]

    def nvmlDeviceGetMemoryInfo(self, gpu: Gpu) -> MemoryInfo:  # noqa: N802
        """Return its bytes."""
        if gpu.total is None:
            raise NVMLError_NotSupported
        return MemoryInfo(gpu.total, gpu.free)

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: Gpu) -> int:  # noqa: N802
        """Return its millijoules."""
        if gpu.joules is None:
            raise NVMLError_NotSupported
        return int(1000 * gpu.joules)
