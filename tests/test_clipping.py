"""The search for the part of a range that is worth covering, against trying it in float64."""

import pytest
import torch

from hubq.clipping import STEP, search_reach
from hubq.tensors import Affine, Grid


def test_the_found_reach_loses_least_of_all_that_were_tried() -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 64, generator=random)
    inputs = torch.randn(200, 64, generator=random) * torch.logspace(-1, 1, 64)
    grid, gram = Grid(3, 32), inputs.T @ inputs

    found = search_reach(weight, gram, grid, clips=10)

    def loss(reach: float, group: slice) -> torch.Tensor:
        error = (Affine.fit(weight, grid, reach).dequantize() - weight)[:, group].double()
        return (inputs[:, group].double() @ error.T).square().sum(0)

    for number, group in enumerate([slice(0, 32), slice(32, 64)]):
        tried = torch.stack([loss(1 - STEP * step, group) for step in range(11)])
        taken = tried.gather(0, ((1 - found[:, number]) / STEP).round().long()[None])[0]
        # The search's products have bfloat16 factors: near-ties may go either way.
        assert (taken <= tried.min(0).values * 1.01).all()


def test_inputs_without_correlation_need_only_their_energies() -> None:
    weight, energy = torch.randn(6, 64), torch.logspace(-1, 1, 64)

    separate = search_reach(weight, energy, Grid(3, 32), clips=10)

    whole = search_reach(weight, energy.diag(), Grid(3, 32), clips=10)
    assert (separate == whole).float().mean() > 0.9  # bfloat16 factors: near-ties differ


def test_no_clips_leave_the_whole_range() -> None:
    reach = search_reach(torch.randn(2, 32), torch.eye(32), Grid(4, 16), clips=0)

    assert torch.equal(reach, torch.ones(2, 2))


@pytest.mark.parametrize("columns", [32, 40])
def test_a_ragged_last_group_is_searched_too(columns: int) -> None:
    reach = search_reach(torch.randn(3, columns), torch.eye(columns), Grid(2, 16), clips=10)

    assert reach.shape == (3, -(-columns // 16))
    assert (reach < 1).any()
