"""The representations: what comes out is what goes in, and bits are what is stored."""

from dataclasses import replace

import pytest
import torch

from hubq.tensors import PER_CHANNEL, Affine, Grid

GRIDS = [
    Grid(bits, group_size, symmetric)
    for bits in (2, 3, 4, 8)
    for group_size in (PER_CHANNEL, 16, 24)
    for symmetric in (False, True)
]


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(10, 40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_what_a_tensor_gives_back_is_rounded_to_itself(grid: Grid, weight: torch.Tensor) -> None:
    first = Affine.fit(weight, grid)
    zero = torch.full_like(first.scales, first.middle) if first.zero is None else first.zero

    again = Affine.on(first.dequantize(), grid, first.scales, zero.float())

    assert torch.equal(again.codes, first.codes)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_no_weight_is_further_off_than_half_a_step(grid: Grid, weight: torch.Tensor) -> None:
    fitted = Affine.fit(weight, grid)

    step = fitted.scales.float().repeat_interleave(grid.width(40), dim=1)[:, :40]
    error = (fitted.dequantize() - weight).abs() / step

    # Rounding the zero moves a range's end by half a step; so does a symmetric range's top.
    assert error.max() <= 1.05


def test_more_bits_never_hurt(weight: torch.Tensor) -> None:
    errors = [
        float((Affine.fit(weight, Grid(bits, 16)).dequantize() - weight).square().sum())
        for bits in (2, 3, 4, 8)
    ]

    assert errors == sorted(errors, reverse=True)


def test_a_group_of_zeros_comes_back_as_zeros() -> None:
    fitted = Affine.fit(torch.zeros(3, 32), Grid(4, 16))

    assert torch.equal(fitted.dequantize(), torch.zeros(3, 32))


def test_a_ragged_last_group_has_a_scale_of_its_own(weight: torch.Tensor) -> None:
    fitted = Affine.fit(weight, Grid(4, 24))

    assert fitted.scale.shape == (10, 2)
    assert torch.equal(
        fitted.dequantize()[:, 24:], Affine.fit(weight[:, 24:], Grid(4)).dequantize()
    )


def test_stored_bits_count_codes_scales_and_zeros() -> None:
    fitted = Affine.fit(torch.randn(8, 128), Grid(4, 64))

    assert fitted.stored_bits() == 4 + (16 + 4) / 64


def test_a_sketch_costs_what_the_tensor_costs(weight: torch.Tensor) -> None:
    grid = Grid(3, 16)

    sketch = Affine.sketch((10, 40), grid)

    assert sketch.codes.is_meta
    assert sketch.stored_bits() == Affine.fit(weight, grid).stored_bits()


def test_split_gives_each_layer_its_rows(weight: torch.Tensor) -> None:
    fitted = Affine.fit(weight, Grid(4, 16))

    first, second = fitted.split([4, 6])

    assert torch.equal(torch.cat([first.dequantize(), second.dequantize()]), fitted.dequantize())


@pytest.mark.parametrize("grid", [Grid(4, 16), Grid(4, 16, symmetric=True)])
def test_joined_is_what_was_split(grid: Grid, weight: torch.Tensor) -> None:
    fitted = Affine.fit(weight, grid)
    scaled = replace(fitted, scale=Affine.fit(fitted.scales, Grid(8)))

    for whole in (fitted, scaled):
        again = Affine.joined(whole.split([4, 0, 6]))
        assert torch.equal(again.codes, whole.codes)
        assert torch.equal(again.dequantize(), whole.dequantize())


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_error_of_rounding_is_that_of_the_rounded_tensor(
    grid: Grid, weight: torch.Tensor
) -> None:
    error = grid.error(weight, *grid.span(weight)).flatten(1)[:, :40]

    expected = Affine.fit(weight, grid).dequantize() - weight
    torch.testing.assert_close(error, expected, rtol=0, atol=1e-6)
