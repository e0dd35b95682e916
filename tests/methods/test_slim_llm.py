"""SliM-LLM against slow and obvious arithmetic in float64."""

import pytest
import torch
from torch import Tensor

from hubq.methods import Inputs, Layer, slim_llm
from hubq.methods.gptq import GPTQ
from hubq.methods.slim_llm import SliMLLM
from hubq.methods.solvers.clipping import STEP
from hubq.tensors import Affine, Binary, Grid, Mixed, QuantizedTensor, values

GROUP = 16


def layer_of(out: int = 24, columns: int = 96) -> Layer:
    """Return a random layer whose groups of columns matter very differently."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, columns, generator=random)
    inputs += inputs @ torch.randn(columns, columns, generator=random) / 10
    inputs *= torch.tensor([1.0, 30, 3, 1, 2, 10]).repeat_interleave(GROUP)
    weight = torch.randn(out, columns, generator=random)
    return Layer("layer", weight, Inputs(600, inputs.T @ inputs))


def gram_of(layer: Layer) -> Tensor:
    assert layer.inputs.gram is not None
    return layer.inputs.gram


def lost(layer: Layer, result: QuantizedTensor) -> float:
    error = (result.dequantize() - layer.weight).double()
    return float(((error @ gram_of(layer).double()) * error).sum())


def clipped(weight: Tensor, energy: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return each row's scale and zero whose clip loses least of one group (out, width)."""
    grid = Grid(bits)
    tried = []
    for step in range(11):
        part = torch.full((len(weight), 1), 1 - STEP * step)
        fitted = Affine.fit(weight.float(), grid, (part, part))
        loss = ((fitted.dequantize() - weight).square() * energy).sum(1)
        tried.append((loss, fitted))
    best = torch.stack([loss for loss, _ in tried]).argmin(0)
    rows = torch.arange(len(weight))
    scale = torch.stack([values(fitted.scale)[:, 0] for _, fitted in tried])[best, rows]
    zero = torch.stack([fitted.zero[:, 0] for _, fitted in tried if fitted.zero is not None])
    return scale.double(), zero[best, rows].double()


def slow(layer: Layer, bits: list[int]) -> Tensor:
    """Solve a column at a time by the explicit inverse, on each group's own levels."""
    hessian = gram_of(layer).double()
    energy = hessian.diagonal().clone()
    order = energy.argsort(descending=True).tolist()
    groups = [slice(GROUP * group, GROUP * (group + 1)) for group in range(len(bits))]
    levels = [
        clipped(layer.weight[:, here], energy[here], width)
        for here, width in zip(groups, bits, strict=True)
    ]
    hessian += torch.eye(len(order)) * (0.01 * energy.mean())
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian[order][:, order]), upper=True)
    moved, rounded = layer.weight.double()[:, order], torch.zeros(layer.weight.shape).double()
    for place, column in enumerate(order):
        scale, zero = levels[column // GROUP]
        code = ((moved[:, place] / scale).round() + zero).clamp(0, 2 ** bits[column // GROUP] - 1)
        rounded[:, column] = (code - zero) * scale
        error = (moved[:, place] - rounded[:, column]) / upper[place, place]
        moved[:, place:] -= error[:, None] * upper[place, place:]
    return rounded


@pytest.fixture
def layer() -> Layer:
    return layer_of()


def quantized(layer: Layer, bits: int) -> Mixed:
    return SliMLLM.model_validate({"bits": bits, "group_size": GROUP}).quantize(layer)


@pytest.mark.parametrize("bits", [3, 4])
def test_columns_are_rounded_in_turn_each_on_the_levels_of_its_groups_width(
    layer: Layer, bits: int
) -> None:
    result = quantized(layer, bits)

    expected = slow(layer, [bits - 1 + int(part) for part in result.part])
    # float32 against float64: a weight that lies half-way may go either way, and then its row too.
    assert ((result.dequantize() - expected).abs() < 1e-4).float().mean() > 0.97


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_average_width_is_exactly_what_was_asked_for(layer: Layer, bits: int) -> None:
    result = quantized(layer, bits)

    up, down = (int((result.part == part).sum()) for part in (2, 0))
    assert up == down > 0


def test_salient_groups_go_up_and_the_least_salient_ones_down(layer: Layer) -> None:
    result = quantized(layer, 3)

    assert result.part[1] == 2  # its inputs are by far the largest
    assert result.part[0] == 0 or result.part[3] == 0


def test_the_assignment_chosen_loses_less_than_one_width_for_all(layer: Layer) -> None:
    uniform = GPTQ(bits=3, group_size=GROUP).quantize(layer)

    assert lost(layer, quantized(layer, 3)) < 0.7 * lost(layer, uniform)


@pytest.mark.parametrize("bits", [2, 3])
def test_candidates_solved_together_are_as_if_solved_alone(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layer_of(columns=6 * GROUP)
    together = quantized(layer, bits)

    for stacked in (2 * layer.weight.numel(), 1):  # two candidates at once, and one
        monkeypatch.setattr(slim_llm, "STACKED", stacked)
        apart = quantized(layer, bits)

        assert torch.equal(apart.part, together.part)
        assert torch.equal(apart.dequantize(), together.dequantize())


def test_groups_that_matter_alike_all_keep_the_average_width(layer: Layer) -> None:
    even = Layer("layer", layer.weight, Inputs(600, torch.eye(96)))

    result = quantized(even, 2)

    assert torch.equal(result.part, torch.ones(6, dtype=torch.uint8))


def test_at_two_bits_a_group_goes_down_to_signs_with_a_mean_and_a_scale(layer: Layer) -> None:
    down, same, up = quantized(layer, 2).parts

    assert isinstance(down, Binary)
    assert len(down.signs) == 1
    assert isinstance(same, Affine)
    assert isinstance(up, Affine)
    assert (same.bits, up.bits) == (2, 3)


def test_a_binary_group_costs_no_more_than_an_affine_one(layer: Layer) -> None:
    result = quantized(layer, 2)

    assert result.theoretical_bits() <= 2 + (16 + 2 + 1) / GROUP


def test_a_single_group_is_solved_at_the_average_width() -> None:
    layer = layer_of()
    one = Layer("layer", layer.weight[:, :GROUP], Inputs(600, gram_of(layer)[:GROUP, :GROUP]))

    result = quantized(one, 3)

    assert [part.shape[1] for part in result.parts] == [0, GROUP, 0]
    assert torch.isfinite(result.dequantize()).all()


def test_a_ragged_group_is_a_mistake_with_a_way_out() -> None:
    mistake = SliMLLM().why_unsupported((8, 576))

    assert mistake == "group_size 128 does not divide 576 inputs; use 32 or 64"
    assert SliMLLM().why_unsupported((8, 256)) is None
