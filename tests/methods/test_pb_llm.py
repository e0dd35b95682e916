"""PB-LLM against slow and obvious arithmetic in float64."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from hubq.methods import Inputs, Layer
from hubq.methods.pb_llm import PBLLM
from hubq.tensors import Affine, Grid, Masked

GROUP = 16


def layer_of(out: int = 24, columns: int = 64) -> Layer:
    """Return a random layer whose inputs are correlated and of very different sizes."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, columns, generator=random) @ torch.randn(
        columns, columns, generator=random
    )
    inputs *= torch.logspace(0, 1, columns)[torch.randperm(columns, generator=random)]
    weight = torch.randn(out, columns, generator=random) + 0.2
    return Layer("layer", weight, Inputs(400, inputs.T @ inputs))


def gram_of(layer: Layer) -> Tensor:
    assert layer.inputs.gram is not None
    return layer.inputs.gram


def lost(layer: Layer, result: Masked) -> float:
    error = (result.dequantize() - layer.weight).double()
    return float(((error @ gram_of(layer).double()) * error).sum())


def order_of(layer: Layer) -> Tensor:
    """Return the columns by energy, groups together."""
    energy = gram_of(layer).diagonal().view(-1, GROUP)
    inside = energy.argsort(descending=True) + GROUP * torch.arange(len(energy))[:, None]
    return inside[energy.sum(1).argsort(descending=True)].flatten()


def two_levels(weight: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:  # (out, width) each
    """Return the mean and the scale of two levels by Lloyd's iteration, a row at a time."""
    levels = []
    for row, part in zip(weight, share, strict=True):
        middle = (part * row).sum() / part.sum()
        for _ in range(8):
            above = row > middle
            high = (part * row)[above].sum() / part[above].sum()
            low = (part * row)[~above].sum() / part[~above].sum()
            middle, half = (high + low) / 2, (high - low) / 2
        levels.append(torch.stack([middle, half]))
    mean, scale = torch.stack(levels, 1)
    return mean, scale


class Slow:
    """The method a column at a time, by the explicit inverse, without refitting."""

    def __init__(self, layer: Layer, mask: Tensor) -> None:
        self.weight, self.mask = layer.weight.double(), mask
        self.kept = Grid(8).span(layer.weight.masked_fill(~mask, 0))
        self.hessian = gram_of(layer).double()
        self.energy = self.hessian.diagonal().clone()
        self.hessian += torch.eye(len(self.energy)) * (0.01 * self.energy.mean())
        self.order = order_of(layer).tolist()
        self.mean = torch.zeros(len(mask), len(self.order) // GROUP).double()
        self.scale = torch.zeros_like(self.mean)
        self.rounded = torch.zeros_like(self.weight)

    def round(self, column: int, moved: Tensor) -> None:
        """Round one column of moved weights."""
        step, zero = self.kept[0][:, 0].double(), self.kept[1][:, 0].double()
        fine = ((moved / step).round() + zero).clamp(0, 255).sub(zero) * step
        mean, scale = self.mean[:, column // GROUP], self.scale[:, column // GROUP]
        coarse = mean + torch.where(moved > mean, scale, -scale)
        self.rounded[:, column] = torch.where(self.mask[:, column], fine, coarse)

    def solve(self) -> None:
        """Round as GPTQ does, fitting each group when its turn comes."""
        inverse = torch.linalg.inv(self.hessian[self.order][:, self.order])
        upper = torch.linalg.cholesky(inverse, upper=True)
        moved = self.weight[:, self.order].clone()
        for place, column in enumerate(self.order):
            if place % GROUP == 0:
                here = self.order[place : place + GROUP]
                share = self.energy[here] * ~self.mask[:, here]
                fitted = two_levels(moved[:, place : place + GROUP], share)
                self.mean[:, column // GROUP], self.scale[:, column // GROUP] = fitted
            self.round(column, moved[:, place])
            error = (moved[:, place] - self.rounded[:, column]) / upper[place, place]
            moved[:, place:] -= error[:, None] * upper[place, place:]

    def store(self) -> None:
        """Round the levels, and each column again to what suits the others best."""
        grid, group = Grid(6), torch.arange(len(self.order)) // GROUP
        signs = torch.where(self.rounded > self.mean[:, group], 1.0, -1.0)
        self.mean = Affine.fit(self.mean.float(), grid).dequantize().double()
        self.scale = Affine.fit(self.scale.float(), grid).dequantize().double()
        levels = self.mean[:, group] + signs * self.scale[:, group]
        self.rounded = torch.where(self.mask, self.rounded, levels)
        for column in self.order:
            errors = self.weight - self.rounded
            errors[:, column] = 0
            pull = errors @ self.hessian[:, column] / self.hessian[column, column]
            self.round(column, self.weight[:, column] + pull)


def test_columns_are_rounded_in_turn_to_what_suits_the_others() -> None:
    layer = layer_of()

    result = PBLLM(group_size=GROUP, rounds=0).quantize(layer)  # compiles for seconds at first

    slow = Slow(layer, result.mask)
    slow.solve()
    slow.store()
    same = (result.dequantize() - slow.rounded).abs() < 1e-4
    # float32 against float64: a weight that lies half-way may go either way, and then its row too.
    assert same.float().mean() > 0.97


def test_a_fraction_of_each_group_of_columns_is_kept() -> None:
    result = PBLLM(group_size=GROUP, fraction=0.25).quantize(layer_of())

    kept = result.mask.view(24, -1, GROUP).sum(dim=(0, 2))
    assert kept.tolist() == [0.25 * 24 * GROUP] * 4
    assert result.count == int(result.mask.sum())


def test_what_is_kept_is_what_binarization_would_lose_most_of() -> None:
    layer = layer_of()

    mask = PBLLM(group_size=GROUP).quantize(layer).mask

    energy = gram_of(layer).diagonal()
    for group in range(4):
        here = slice(GROUP * group, GROUP * (group + 1))
        rest = energy[here] * ~mask[:, here]
        mean, scale = two_levels(layer.weight[:, here].double(), rest.double())
        distance = (layer.weight[:, here] - mean[:, None]).abs() - scale[:, None]
        loss = distance.square() * energy[here]
        kept, others = loss[mask[:, here]], loss[~mask[:, here]]
        assert kept.quantile(0.1) > others.quantile(0.9)


def test_each_kept_weight_costs_8_bits_and_each_other_one() -> None:
    assert PBLLM().nominal_bits == pytest.approx(2)
    assert PBLLM(fraction=0.1).nominal_bits == pytest.approx(1.7)


def test_keeping_more_loses_less() -> None:
    layer = layer_of()

    losses = [
        lost(layer, PBLLM(group_size=GROUP, fraction=fraction).quantize(layer))
        for fraction in (0.02, 0.1, 0.3, 0.9)
    ]

    assert losses == sorted(losses, reverse=True)


def test_fitting_the_levels_again_loses_less() -> None:
    layer = layer_of()

    once, twice = (
        lost(layer, PBLLM(group_size=GROUP, rounds=rounds).quantize(layer)) for rounds in (0, 2)
    )

    assert twice < once


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 14.3])
def test_a_fraction_must_lie_between_none_and_all(fraction: float) -> None:
    with pytest.raises(ValidationError, match=r"fraction\n.*should be (greater|less) than [01]"):
        PBLLM(fraction=fraction)


def test_an_input_that_is_never_used_gives_nothing() -> None:
    layer = layer_of()
    gram_of(layer)[5] = 0
    gram_of(layer)[:, 5] = 0

    result = PBLLM(group_size=GROUP).quantize(layer)

    assert torch.isfinite(result.dequantize()).all()


def test_a_ragged_group_is_a_mistake_with_a_way_out() -> None:
    assert (
        PBLLM().why_unsupported((8, 576))
        == "group_size 128 does not divide 576 inputs; use 32 or 64"
    )
    assert PBLLM().why_unsupported((8, 256)) is None
