"""Every method through a whole walk over real blocks, on a GPU beside the CPU.

Blocks after the first get other inputs on each device, as their sums run in other orders, so it is
the mean of the layers' errors that has to be the same.
"""

from collections.abc import Iterator
from statistics import fmean

from gpu.findings import Finding, in_turn, within
from gpu.methods import CPU
from gpu.models import Setting, on_device, runnable
from hubq.methods import method_class
from hubq.records.checkpoint import Checkpoint

NEAR, NEAR_TRAINED = 0.01, 0.05


def blocks(setting: Setting) -> Iterator[Finding]:
    """Yield for each method the mean output error of its layers on both devices."""
    subject = setting.real()

    def one(name: str) -> Iterator[Finding]:
        errors: list[float] = []
        for where in (CPU, setting.device):
            place = f"{len(errors)}-{where.type}"
            with on_device(where):
                done = subject.quantized(name, setting.folder / "blocks" / name / place)
            errors.append(mean_error(done))
        near = NEAR_TRAINED if method_class(name).tunes else NEAR
        yield within(f"{name}, mean error", errors[1], errors[0], near)

    yield from in_turn(runnable()[0], one)


def mean_error(done: Checkpoint) -> float:
    """Return the mean of the layers' output errors, or of their weights' without a text."""
    found = [each.weight_error if each.error is None else each.error for each in done.layers]
    return fmean(error for error in found if error is not None)
