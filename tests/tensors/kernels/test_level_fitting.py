"""Fitting levels: in plain torch as by numba on a CPU."""

import pytest
import torch
from torch import Tensor

from hubq.tensors.kernels.level_fitting import rounding_error, rounding_loss, two_means


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(30, 3, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def energy() -> Tensor:
    return torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) + 0.1


def test_the_best_two_levels_are_those_of_a_cpu(
    weight: Tensor, energy: Tensor, device: torch.device
) -> None:
    without = torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    without[4] = True  # a row in which none counts
    weight[5] = 0.25  # one with a single level
    weight[6, 1, 2] = torch.nan

    found = two_means(*(each.to(device) for each in (weight, energy, without)))

    for there, here in zip(found, two_means(weight, energy, without), strict=True):
        assert there.device.type == device.type
        torch.testing.assert_close(there.cpu(), here, equal_nan=True)


def test_what_rounding_loses_is_what_it_loses_on_a_cpu(
    weight: Tensor, energy: Tensor, device: torch.device
) -> None:
    scale = torch.rand(weight.shape[:2], generator=torch.Generator().manual_seed(3)) + 0.2
    zero = torch.full_like(scale, 3)
    there = (weight.to(device), scale.to(device), zero.to(device))

    error = rounding_error(*there, 7)
    loss = rounding_loss(*there, 7, energy.to(device))

    assert error.device.type == loss.device.type == device.type
    torch.testing.assert_close(error.cpu(), rounding_error(weight, scale, zero, 7))
    expected = rounding_loss(weight, scale, zero, 7, energy)
    torch.testing.assert_close(loss.cpu(), expected)
    torch.testing.assert_close((error.cpu().square() * energy).sum(2), expected)
