"""The loops that round columns in turn: Triton and plain torch beside numba on the CPU."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from gpu.findings import Finding, not_run
from gpu.methods import CPU, on
from gpu.models import Setting
from hubq.machine.device import synchronize
from hubq.tensors.kernels.choice import tool_for
from hubq.tensors.kernels.column_rounding import Levels, round_columns, spread
from hubq.tensors.kernels.sign_planes import round_to_signs
from hubq.tensors.kernels.torch_loops import column_rounding as torch_columns
from hubq.tensors.kernels.torch_loops import sign_planes as torch_signs

COLUMNS = 128  # of a block, as solvers take them
TIMES = 5
LOSS, ALIKE = 0.01, 0.95  # as of methods; of the rows
Rounded = tuple[Tensor, Tensor]
Loop = Callable[..., Rounded]


def loops(setting: Setting) -> Iterator[Finding]:
    """Yield for each loop and each way to run it what comes of it, and its time."""
    rows = 70 if setting.small else 14336
    device = setting.device
    block = drawn(rows)
    step = torch.rand(1, rows, generator=torch.Generator().manual_seed(1)) / 4 + 0.2
    group = torch.zeros(COLUMNS, dtype=torch.int64)
    levels = Levels(step, torch.full_like(step, 7.5), torch.tensor([15.0]), group)
    # (larger scale, smaller one, mean; sets; rows)
    planes = torch.stack([4 * step.expand(2, -1), step.expand(2, -1), 0 * step.expand(2, -1)])
    sets = torch.arange(COLUMNS) % 2
    for name, loop, plain, given, spread_out in (
        ("round_columns", round_columns, torch_columns.round_columns, (*block, levels),
         (*block, spread(levels), None)),
        ("round_to_signs", round_to_signs, torch_signs.round_to_signs, (*block, planes, sets),
         (*block, planes[:, sets])),
    ):  # fmt: skip
        expected, seconds = timed(partial(loop, *given), CPU)
        yield Finding(name, "", f"numba {1e3 * seconds:.2f} ms")
        ways: dict[str, tuple[Loop, object]] = {"plain torch": (plain, spread_out)}
        if tool_for(device) == "triton":
            ways["Triton"] = loop, given
        else:
            yield not_run(f"{name}, Triton", "needs CUDA and Triton")
        for way, (run, values) in ways.items():
            yield compared(f"{name}, {way}", run, on(device, values), device, expected)


def drawn(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, where they have been moved, and the feedback between the columns."""
    random = torch.Generator().manual_seed(0)
    weight, movement = torch.randn(2, COLUMNS, rows, generator=random)
    feedback = torch.randn(COLUMNS, COLUMNS, generator=random) / 16
    return weight, weight + movement / 10, feedback


def compared(
    name: str, loop: Loop, values: object, device: torch.device, expected: Rounded
) -> Finding:
    """Run a loop on a device, and compare its codes and its loss with those of the CPU."""
    assert isinstance(values, tuple)
    (codes, errors), seconds = timed(partial(loop, *values), device)
    alike = float((codes.cpu() == expected[0]).all(0).float().mean())
    apart = abs(float(errors.cpu().square().sum() / expected[1].square().sum()) - 1)
    return Finding(
        name,
        f"{ALIKE:.0%} of rows equal, loss within {LOSS:.0%}",
        f"{alike:.2%}, {apart:.4%}; {1e3 * seconds:.2f} ms",
        ok=alike >= ALIKE and apart <= LOSS,
    )


def timed(loop: Callable[[], Rounded], device: torch.device) -> tuple[Rounded, float]:
    """Run a loop some times, and return its result and the median of its seconds."""
    found, seconds = loop(), []
    for _ in range(TIMES):
        synchronize(device.type)
        began = perf_counter()
        found = loop()
        synchronize(device.type)
        seconds.append(perf_counter() - began)
    return found, median(seconds)
