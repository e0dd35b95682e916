"""The search for the part of a range that is worth covering, against trying it in float64."""

import pytest
import torch

from hubq.methods.solvers.clipping import STEP, search_clipping_range
from hubq.tensors import Affine, ClippingRange, Grid

GRID = Grid(3, 32)


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(6, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def inputs() -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(200, 64, generator=random) * torch.logspace(-1, 1, 64)


def loss(
    weight: torch.Tensor, inputs: torch.Tensor, clipping: ClippingRange, group: slice
) -> torch.Tensor:  # (out,)
    """Return what rounding one group of columns does to the squared output."""
    error = (Affine.fit(weight, GRID, clipping).dequantize() - weight)[:, group].double()
    return (inputs[:, group].double() @ error.T).square().sum(0)


def same(part: float) -> ClippingRange:
    return torch.full((6, 2), part), torch.full((6, 2), part)


@pytest.mark.parametrize("group", [slice(0, 32), slice(32, 64)], ids=str)
def test_the_found_reach_loses_least_of_all_that_were_tried(
    weight: torch.Tensor, inputs: torch.Tensor, group: slice
) -> None:
    found = search_clipping_range(weight, inputs.T @ inputs, GRID, clips=10)

    tried = torch.stack([loss(weight, inputs, same(1 - STEP * step), group) for step in range(11)])
    # Sums in float32 may decide near-ties either way.
    assert (loss(weight, inputs, found, group) <= tried.min(0).values * 1.01).all()


def test_each_side_on_its_own_never_loses_more(weight: torch.Tensor, inputs: torch.Tensor) -> None:
    gram, group = inputs.T @ inputs, slice(0, 32)

    both = search_clipping_range(weight, gram, GRID, clips=10)
    each = search_clipping_range(weight, gram, GRID, clips=10, each_side=True)

    lost, less = (loss(weight, inputs, clipping, group) for clipping in (both, each))
    assert (less <= lost * 1.01).all()
    assert less.sum() < lost.sum()


def test_inputs_without_correlation_need_only_their_energies(weight: torch.Tensor) -> None:
    energy = torch.logspace(-1, 1, 64)

    separate, _ = search_clipping_range(weight, energy, GRID, clips=10)

    whole, _ = search_clipping_range(weight, energy.diag(), GRID, clips=10)
    assert (separate == whole).float().mean() > 0.9  # near-ties differ


def test_no_clips_leave_the_whole_range(weight: torch.Tensor) -> None:
    low, high = search_clipping_range(weight, torch.eye(64), GRID, clips=0)

    assert torch.equal(low, torch.ones(6, 2))
    assert torch.equal(high, torch.ones(6, 2))


@pytest.mark.parametrize("columns", [32, 40])
def test_a_ragged_last_group_is_searched_too(columns: int) -> None:
    low, _ = search_clipping_range(
        torch.randn(3, columns), torch.eye(columns), Grid(2, 16), clips=10
    )

    assert low.shape == (3, -(-columns // 16))
    assert (low < 1).any()
