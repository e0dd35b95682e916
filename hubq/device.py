"""Where to compute, and in which dtype."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def best_device() -> "torch.device":
    """Return the GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: "torch.device", stored: "torch.dtype") -> "torch.dtype":
    """Return what a forward pass for calibration runs in; a CPU is slow in all but bfloat16."""
    import torch

    if device.type == "cpu" or stored == torch.float32:
        return torch.bfloat16
    return stored


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
    import platform
    from pathlib import Path

    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
