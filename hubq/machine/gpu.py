"""The GPU that this process computes on, as NVIDIA's driver tells: a look takes none of its memory.

Through NVML (the package nvidia-ml-py), which knows all GPUs of the machine or container, whatever
CUDA_VISIBLE_DEVICES leaves to CUDA. A process that has torch asks that instead.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

VISIBLE = "CUDA_VISIBLE_DEVICES"


class DeviceMemory(NamedTuple):
    """The memory of a GPU, or of the slice of one (MIG) that is used."""

    total: int  # bytes
    free: int


def memory() -> DeviceMemory | None:
    """Return the memory of the first GPU that CUDA_VISIBLE_DEVICES leaves.

    None without a GPU, without NVML, and where the driver tells none, since GPU and processor share
    what the machine has. GPUs count as they lie on the bus, and so they do for CUDA where all are
    alike; elsewhere set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPU by its UUID.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        gpu = _chosen(pynvml, os.environ.get(VISIBLE))
        found = None if gpu is None else pynvml.nvmlDeviceGetMemoryInfo(gpu)
    except pynvml.NVMLError:
        return None
    return None if found is None else DeviceMemory(int(found.total), int(found.free))


def _chosen(nvml: Any, visible: str | None) -> Any | None:  # noqa: ANN401 - a module, a handle
    """Return NVML's handle of the first device that CUDA would use; None for none of them.

    `visible` names devices as CUDA reads it: by numbers, or by UUIDs or how these begin, separated
    by commas, up to the first that is no device.
    """
    first = "0" if visible is None else visible.partition(",")[0].strip()
    if first.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    gpus = [nvml.nvmlDeviceGetHandleByIndex(each) for each in range(nvml.nvmlDeviceGetCount())]
    if first.isdecimal():
        chosen = gpus[int(first)] if int(first) < len(gpus) else None
    else:
        named = (gpu for gpu in gpus if first and nvml.nvmlDeviceGetUUID(gpu).startswith(first))
        chosen = next(named, None)
    return None if chosen is None else next(_slices(nvml, chosen), chosen)


def _slices(nvml: Any, gpu: Any) -> Iterator[Any]:  # noqa: ANN401 - a module, handles
    """Yield the slices of a GPU that is divided (MIG): CUDA uses the first, never the whole."""
    try:
        if not nvml.nvmlDeviceGetMigMode(gpu)[0]:
            return
    except nvml.NVMLError_NotSupported:  # a GPU that can't be divided
        return
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with suppress(nvml.NVMLError_NotFound):
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)
