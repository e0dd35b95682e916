"""Rounding columns in turn: by Triton and in plain torch as by numba on a CPU."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from hubq.tensors.kernels.column_rounding import Exceptions, Levels, round_columns, spread

COLUMNS, OUT = 12, 70  # one program's 64 rows, and some of another
GROUP = torch.arange(COLUMNS) // 5
Load = Callable[[str], ModuleType]
Block = tuple[Tensor, Tensor, Tensor]  # the weight, where it has been moved, the feedback
Rounded = tuple[Tensor, Tensor]


def block() -> Block:
    random = torch.Generator().manual_seed(0)
    weight, movement = torch.randn(2, COLUMNS, OUT, generator=random)
    feedback = torch.randn(COLUMNS, COLUMNS, generator=random) / 4
    return weight, weight + movement / 10, feedback


def even() -> tuple[Levels, None]:
    random = torch.Generator().manual_seed(1)
    scale, zero = torch.rand(2, 3, OUT, generator=random)
    return Levels(scale + 0.3, 4 * zero - 1, torch.tensor([3.0, 7.0, 1.0]), GROUP), None


def masked() -> tuple[Levels, Exceptions]:
    random = torch.Generator().manual_seed(2)
    fine = torch.rand(1, OUT, generator=random) / 100 + 0.01
    middle, top = torch.full((1, OUT), 128.0), torch.tensor([255.0])
    mask = torch.rand(COLUMNS, OUT, generator=random) < 0.2
    return even()[0], (mask, Levels(fine, middle, top, torch.zeros_like(GROUP)))


def tabled() -> tuple[Levels, None]:
    return replace(even()[0], table=torch.tensor([-1.5, -0.4, 0.3, 1.7])), None


def elsewhere(
    given: Block,
    levels: tuple[Levels, Exceptions | None],
    device: torch.device,
    interpreted: Load,
) -> Iterator[Rounded]:
    """Yield what comes of a block by Triton, interpreted, and on a device by what it has there."""
    by_triton = interpreted("column_rounding").round_columns
    yield by_triton(*given, spread(*levels), levels[0].table)
    codes, errors = round_columns(*on(device, given), *on(device, levels))
    assert codes.device.type == errors.device.type == device.type
    yield codes.cpu(), errors.cpu()


def on(device: torch.device, value: Any) -> Any:
    """Move all tensors to a device."""
    if isinstance(value, tuple):
        return tuple(on(device, each) for each in value)
    if isinstance(value, Levels):
        return Levels(*(on(device, getattr(value, each.name)) for each in fields(value)))
    return value.to(device) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("levels", [even(), masked(), tabled()], ids=["even", "masked", "tabled"])
def test_codes_are_those_of_a_cpu_and_so_is_the_loss(
    levels: tuple[Levels, Exceptions | None], device: torch.device, interpreted: Load
) -> None:
    codes, errors = round_columns(*block(), *levels)

    for others, other_errors in elsewhere(block(), levels, device, interpreted):
        # A weight that lies half-way may go either way, and then the rest of its row follows.
        alike = (others == codes).all(0)
        assert alike.float().mean() > 0.95
        torch.testing.assert_close(other_errors[:, alike], errors[:, alike])
        assert float(other_errors.square().sum()) == pytest.approx(
            float(errors.square().sum()), rel=1e-2
        )


def halves(zero: float, top: float, *, tabled: bool = False) -> tuple[Block, Levels]:
    """Return weights half-way between levels, of numbers that all arithmetic is exact in."""
    moved = (torch.arange(COLUMNS * OUT).view(COLUMNS, OUT) % 17 - 4) / 2 - zero
    shape = (1, OUT)
    table = torch.arange(4.0) - 2 if tabled else None
    step, middle = torch.ones(shape), torch.full(shape, zero)
    levels = Levels(step, middle, torch.tensor([top]), torch.zeros_like(GROUP), table)
    feedback = torch.zeros(COLUMNS, COLUMNS)
    feedback[2, 5] = 1
    return (moved, moved, feedback), levels


@pytest.mark.parametrize(
    ("given", "levels"),
    [
        halves(0.0, 3.0),
        halves(1.5, 3.0),  # between codes
        halves(-(2.0**22), 3.0),  # numbers so large that they have halves, but no quarters
        halves(2.0, 3.0, tabled=True),
    ],
    ids=["zero", "between codes", "far from zero", "tabled"],
)
def test_ties_go_where_they_go_on_a_cpu(
    given: Block, levels: Levels, device: torch.device, interpreted: Load
) -> None:
    codes, errors = round_columns(*given, levels)

    assert set(codes.flatten().tolist()) == {0, 1, 2, 3}
    for others, other_errors in elsewhere(given, (levels, None), device, interpreted):
        assert torch.equal(others, codes)
        assert torch.equal(other_errors, errors)


@pytest.mark.parametrize("levels", [even(), masked(), tabled()], ids=["even", "masked", "tabled"])
def test_nan_is_code_zero_and_stays_in_its_row(
    levels: tuple[Levels, Exceptions | None], device: torch.device, interpreted: Load
) -> None:
    weight, moved, feedback = block()
    weight[4, 3] = moved[4, 3] = torch.nan

    given = (weight, moved, feedback)
    codes, errors = round_columns(*given, *levels)

    row = torch.zeros(OUT, dtype=torch.bool)
    row[3] = True
    lost = torch.ones(8, dtype=torch.bool)
    if levels[0].table is not None:  # NaN lies above no limit, so it has a level
        lost[1:] = False
    assert torch.equal(codes[4:, 3], torch.zeros(8, dtype=torch.uint8))
    assert torch.equal(errors[4:, 3].isnan(), lost)
    assert not errors[:, ~row].isnan().any()
    for others, other_errors in elsewhere(given, levels, device, interpreted):
        assert torch.equal(others, codes)
        assert torch.equal(other_errors.isnan(), errors.isnan())


@pytest.mark.parametrize(("columns", "out"), [(1, 1), (3, 64), (2, 129)])
def test_any_number_of_rows_and_columns_is_rounded(
    columns: int, out: int, device: torch.device, interpreted: Load
) -> None:
    weight, moved, feedback = (
        torch.rand(shape) for shape in ((columns, out),) * 2 + ((columns,) * 2,)
    )
    step = torch.full((1, out), 0.25)
    levels = Levels(step, 0 * step, torch.tensor([3.0]), torch.zeros(columns, dtype=torch.int64))

    codes, _ = round_columns(weight, moved, feedback, levels)

    for others, _ in elsewhere((weight, moved, feedback), (levels, None), device, interpreted):
        assert (others == codes).float().mean() > 0.99
