"""Two levels a group, against every split of the weights and against changing them in float64."""

import pytest
import torch
from torch import Tensor

from hubq.methods.solvers.binarization import Pair, fit_pair, improve_pair


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(30, 4, 32, generator=torch.Generator().manual_seed(0)) + 0.3


@pytest.fixture
def energy() -> Tensor:
    return torch.rand(4, 32, generator=torch.Generator().manual_seed(1)) + 0.1


def loss(weight: Tensor, energy: Tensor, pair: Pair) -> Tensor:  # (out, groups)
    mean, scale = pair.mean[..., None], pair.scale[..., None]
    rounded = mean + torch.where(weight > mean, scale, -scale)
    return ((weight - rounded).square() * energy).sum(2)


def least(weight: Tensor, energy: Tensor) -> Tensor:  # (out, groups)
    """Return what the best of all splits into small and large weights loses."""
    order = weight.argsort(2)
    given, share = weight.gather(2, order), energy.expand_as(weight).gather(2, order)
    losses = []
    for cut in range(1, weight.shape[2]):
        sides = [(given[..., some], share[..., some]) for some in (slice(cut), slice(cut, None))]
        levels = [
            (part * side).sum(2, keepdim=True) / part.sum(2, keepdim=True) for side, part in sides
        ]
        losses.append(
            sum(
                ((side - level).square() * part).sum(2)
                for (side, part), level in zip(sides, levels, strict=True)
            )
        )
    return torch.stack([torch.as_tensor(each) for each in losses]).amin(0)


def test_the_two_levels_are_nearly_the_best_there_are(weight: Tensor, energy: Tensor) -> None:
    pair = fit_pair(weight, energy)

    lost, best = loss(weight, energy, pair), least(weight.double(), energy.double())
    assert (lost > best * 0.999).all()
    assert lost.sum() < 1.03 * best.sum()


def test_weights_that_do_not_count_move_nothing(weight: Tensor, energy: Tensor) -> None:
    without = torch.rand(weight.shape) < 0.3

    pair = fit_pair(weight, energy, without)

    wild = torch.where(without, torch.full_like(weight, 100), weight)
    again = fit_pair(wild, energy, without)
    assert torch.equal(pair.mean, again.mean)
    assert torch.equal(pair.scale, again.scale)


def test_weights_that_are_all_alike_have_no_scale_to_speak_of(energy: Tensor) -> None:
    alike = fit_pair(torch.full((2, 4, 32), 0.25), energy)
    none = fit_pair(torch.randn(2, 4, 32), energy, torch.ones(2, 4, 32, dtype=torch.bool))

    for pair, mean in ((alike, 0.25), (none, 0.0)):
        torch.testing.assert_close(pair.mean, torch.full((2, 4), mean))
        assert (pair.scale < 1e-4).all()


def test_evenly_spaced_levels_are_the_pair(weight: Tensor, energy: Tensor) -> None:
    pair = fit_pair(weight, energy)

    step, zero = pair.even()

    torch.testing.assert_close((0 - zero) * step, pair.mean - pair.scale)
    torch.testing.assert_close((1 - zero) * step, pair.mean + pair.scale)


def test_no_other_change_of_the_levels_loses_less() -> None:
    random = torch.Generator().manual_seed(2)
    inputs = torch.randn(100, 16, generator=random, dtype=torch.float64)
    own = inputs.T @ inputs
    errors = torch.randn(16, 5, generator=random, dtype=torch.float64)
    signs = torch.randn(16, 5, generator=random, dtype=torch.float64).sign()
    used = (torch.rand(16, 5, generator=random) < 0.8).double()

    change = improve_pair(signs, used, own @ errors, own)

    def lost(mean: Tensor, scale: Tensor) -> Tensor:  # (out,)
        left = errors - used * (mean + signs * scale)
        return (left * (own @ left)).sum(0)

    best = lost(change.mean, change.scale)
    assert (best < lost(0 * change.mean, 0 * change.scale)).all()
    for mean, scale in ((0.05, 0), (-0.05, 0), (0, 0.05), (0, -0.05)):
        assert (best < lost(change.mean + mean, change.scale + scale)).all()
