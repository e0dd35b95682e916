"""Energy, where the machine tells: a processor's or a GPU's own counter of joules."""

from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
Meter = Callable[[], float]  # joules since the meter was made


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
