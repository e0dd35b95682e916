"""The shift of a group by which its codes have the most entropy: as tried one by one, anywhere."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hubq.tensors.codebook import levels
from hubq.tensors.kernels.code_entropy import most_even_shift

FACTORS = torch.arange(-20, 21) * 0.004


def middles() -> Tensor:
    table = levels("nf4")
    return (table[1:] + table[:-1]) / 2


@pytest.fixture
def weight() -> Tensor:
    found = torch.randn(24, 3, 64, generator=torch.Generator().manual_seed(0))
    found[1] *= 1e-20
    found[2] += 1000  # far from zero: neighbouring candidates round to the same number
    found[3] = 0.25  # a single value
    found[4, 0] = torch.randint(-2, 3, (64,), generator=torch.Generator().manual_seed(1)).float()
    return found


def entropy(group: Tensor, shift: np.float32) -> float:
    """Count the codes of a group one by one; return their entropy in bits."""
    given = group.numpy()
    scale = np.abs(given - shift).max()
    bounds = [shift + middle * scale for middle in middles().numpy()]
    codes = [sum(value > bound for bound in bounds) for value in given]
    shares = np.bincount(codes) / len(given)
    return float(-sum(each * np.log2(each) for each in shares if each))


def best_of_all(group: Tensor) -> float:
    """Try every candidate; of equals return 0, or that which is the nearest to the median."""
    median = group.median().numpy()  # the lower one
    reach = np.abs(group.numpy() - median).max()
    nearest_first = sorted(FACTORS.numpy(), key=lambda factor: (abs(factor), factor))
    shifts = [np.float32(0), *(median + factor * reach for factor in nearest_first)]
    found = [entropy(group, shift) for shift in shifts]
    return float(shifts[next(i for i, each in enumerate(found) if each > max(found) - 1e-9)])


@pytest.mark.parametrize("width", [64, 13, 1])
def test_no_candidate_has_more_entropy(weight: Tensor, width: int) -> None:
    weight = weight[:8, :, :width].contiguous()

    found = most_even_shift(weight, middles(), FACTORS)

    assert found.tolist() == [[best_of_all(group) for group in row] for row in weight]


def test_shifts_are_the_same_numbers_on_another_device(
    weight: Tensor, device: torch.device
) -> None:
    weight[5, 1, 7] = torch.nan

    found = most_even_shift(weight.to(device), middles().to(device), FACTORS.to(device))

    here = most_even_shift(weight, middles(), FACTORS)
    assert found.device.type == device.type
    assert torch.equal(found.cpu(), here)
    assert here[5, 1] == 0
