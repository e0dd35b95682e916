"""What quantizing leaves behind for the evaluation, and 70B's widths on a small GPU."""

import os
from collections.abc import Iterator

from gpu.findings import Finding, at_most, told
from gpu.models import NOWHERE, Setting
from hubq.machine.memory import VARIABLE
from hubq.machine.meters import available, held
from hubq.machine.progress import SILENT
from hubq.records.run_folder import PLAN
from hubq.stages.publish.apart import quantize_apart

LEFT = 0.25  # GB that may be missing afterwards, of the GPU's memory or this process's
SMALL_GPU = 24.0  # GB


def memory(setting: Setting) -> Iterator[Finding]:
    """Yield the peaks of GPTQ on one block of 70B's widths, and what is held once it is done."""
    os.environ[VARIABLE] = "host"
    subject, run = setting.wide("70b", 1), setting.folder / "memory"
    planned = subject.planned("gptq", run)
    planned.save(run / PLAN)
    before = taken(setting)
    done = quantize_apart(planned, run, NOWHERE, SILENT, lambda: None)
    yield at_most("left behind", (taken(setting) - before) / 1e9, LEFT, "GB")
    yield told("time", f"{done.seconds:.1f} s")
    yield at_most("host", done.peak_memory / 1e9, planned.peak_memory / 1e9, "GB, as planned")
    if done.device_memory is not None and done.device_reserved is not None:
        assert planned.device_memory is not None
        yield at_most("GPU, tensors", done.device_memory / 1e9, planned.device_memory / 1e9,
                      "GB, as planned")  # fmt: skip
        yield at_most("GPU, reserved", done.device_reserved / 1e9, SMALL_GPU, "GB")


def taken(setting: Setting) -> int:
    """Return the bytes that are taken of the GPU, or by this process."""
    kind = setting.device.type
    return -available(kind) if kind == "cuda" else held(kind)
