"""BiLLM against slow and obvious arithmetic in float64."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hubq.formats import format_named
from hubq.methods import Group, Inputs, Layer
from hubq.methods.billm import BiLLM
from hubq.methods.rtn import RTN
from hubq.methods.solvers.column_solver import Hessian, prepare, refine, solve
from hubq.methods.solvers.sign_planes import Planes
from hubq.tensors import QuantizedTensor
from hubq.tensors.kernels.sign_planes import fit_levels


def layer_of(out: int = 24, columns: int = 96) -> Layer:
    """Return a random layer whose inputs are correlated and of very different sizes."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, columns, generator=random) @ torch.randn(
        columns, columns, generator=random
    )
    inputs *= torch.logspace(0, 1, columns)[torch.randperm(columns, generator=random)]
    weight = torch.randn(out, columns, generator=random)
    return Layer("layer", weight, Inputs(400, inputs.T @ inputs))


def gram_of(layer: Layer) -> Tensor:
    assert layer.inputs.gram is not None
    return layer.inputs.gram


def lost(layer: Layer, quantized: QuantizedTensor) -> float:
    error = (quantized.dequantize() - layer.weight).double()
    return float(((error @ gram_of(layer).double()) * error).sum())


def planes_of(layer: Layer, group_size: int = 32) -> tuple[Planes, Hessian]:
    """Return a layer with every fourth column apart and levels fitted without feedback."""
    hessian = prepare(layer.inputs, 0.01, "layer", activation_order=True, together=group_size)
    apart = torch.arange(layer.weight.shape[1]) % 4 == 0
    planes = Planes(layer.weight, hessian, apart, group_size, means=True)
    for begin in range(0, len(apart), group_size):
        here = slice(begin, begin + group_size)
        planes.fit_and_round(here, planes.columns[here], torch.zeros(group_size, group_size))
    return planes, hessian


def nearest(given: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the code and the value of the nearest of the four levels, for each row."""
    larger, smaller, mean = levels.double()
    codes = torch.arange(4)
    values = mean[:, None] + larger[:, None] * (2 * (codes & 1) - 1)
    values = values + smaller[:, None] * (2 * (codes >> 1) - 1)
    code = (given[:, None] - values).abs().argmin(1)
    return code, values.gather(1, code[:, None])[:, 0]


@pytest.mark.parametrize("means", [False, True])
def test_no_other_break_point_loses_less(means: bool) -> None:
    random = torch.Generator().manual_seed(1)
    weight = torch.randn(5, 12, generator=random)
    energy = torch.rand(12, generator=random) + 0.1
    apart = torch.arange(12) < 4

    levels, loss = fit_levels(weight, energy, apart, means=means)

    for row in range(5):
        for part, chosen in enumerate((~apart, apart)):
            given, share = weight[row, chosen].double(), energy[chosen].double()
            mean = (share * given).sum() / share.sum() if means else torch.tensor(0.0)
            far, order = (given - mean).abs().sort()
            share = share[order]
            losses = [
                sum(spread(far[some], share[some]) for some in (slice(cut), slice(cut, None)))
                for cut in range(1, len(far))
            ]
            assert loss[part, row] == pytest.approx(float(min(losses)), rel=1e-4)
            assert levels[2, part, row] == pytest.approx(float(mean), abs=1e-6)


def spread(given: Tensor, share: Tensor) -> Tensor:
    """Return the weighted squares around the weighted mean."""
    mean = (given * share).sum() / share.sum()
    return (share * (given - mean).square()).sum()


def test_columns_are_rounded_as_gptq_says_to_the_nearest_level() -> None:
    layer = layer_of()
    planes, hessian = planes_of(layer)

    solve(planes.columns, hessian.factor, planes.round, 32)

    gram = gram_of(layer).double()[hessian.order][:, hessian.order]
    gram += torch.eye(len(gram)) * (0.01 * gram.diagonal().mean())
    upper = torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)
    weight = layer.weight.double()[:, hessian.order]
    for i, its in enumerate(planes.sets.tolist()):
        code, value = nearest(weight[:, i], planes.levels[:, its])
        # float32 against float64: a weight that lies half-way may go either way.
        assert (planes.codes[i] == code).float().mean() > 0.9
        weight[:, i:] -= ((weight[:, i] - value) / upper[i, i])[:, None] * upper[i, i:]


def test_columns_are_rounded_again_to_what_suits_all_others() -> None:
    layer = layer_of()
    planes, hessian = planes_of(layer)
    gram = gram_of(layer)[hessian.order][:, hessian.order]
    errors = planes.errors()
    slow = errors.double()

    refine((planes.columns, errors), gram, planes.round, block=32)

    exact = gram.double()
    for i, its in enumerate(planes.sets.tolist()):
        weight = planes.columns[i].double()
        moved = weight + exact[i] @ slow / exact[i, i] - slow[i]
        slow[i] = weight - nearest(moved, planes.levels[:, its])[1]
    assert (errors - slow).abs().lt(1e-4).float().mean() > 0.98


def test_no_other_levels_lose_less_with_the_same_signs() -> None:
    layer = layer_of(out=6, columns=32)
    planes, hessian = planes_of(layer)
    gram = gram_of(layer)[hessian.order][:, hessian.order]
    root = torch.linalg.cholesky(gram.double()).T
    signs = [(planes.codes >> bit & 1).double() * 2 - 1 for bit in (0, 1)]
    sides = [(planes.apart == side).double()[:, None] for side in (False, True)]

    fitted = planes.refit(slice(0, 32), gram @ planes.errors(), gram)

    for row in range(6):
        shapes = [plane * side for plane in (*signs, torch.ones_like(signs[0])) for side in sides]
        factors = root @ torch.stack([each[:, row] for each in shapes], 1)
        target = root @ planes.columns[:, row].double()
        best = torch.linalg.lstsq(factors, target).solution
        least = (factors @ best - target).square().sum()
        loss = float((root @ fitted[:, row].double()).square().sum())
        assert loss == pytest.approx(float(least), rel=1e-3)


def test_fitted_levels_are_named_in_the_order_that_rounding_wants() -> None:
    planes, _ = planes_of(layer_of())
    planes.levels[:2] = planes.levels[:2].flip(0) * -1
    codes = (planes.codes & 1) << 1 | planes.codes >> 1
    planes.codes = 3 - codes  # both planes swapped and turned round: the same weights
    errors = planes.errors()

    fitted = planes.refit(slice(0, 32), torch.zeros(32, 24), torch.eye(32))

    larger, smaller = planes.levels[:2, planes.sets[:32]]
    assert (larger >= smaller).all()
    assert (smaller >= 0).all()
    torch.testing.assert_close(fitted, errors[:32])


def test_each_round_of_fitting_loses_less_of_the_output() -> None:
    layer = layer_of(out=48)

    losses = [
        lost(layer, BiLLM(group_size=32, rounds=rounds, scale_bits=8).quantize(layer))
        for rounds in range(3)
    ]

    assert all(after < before for before, after in pairwise(losses))


def test_billm_loses_far_less_of_the_output_than_rounding_to_2_bits() -> None:
    layer = layer_of(out=48)

    binarized = lost(layer, BiLLM(group_size=32).quantize(layer))

    assert binarized < lost(layer, RTN(bits=2, group_size=32).quantize(layer)) / 4


def test_columns_of_large_weights_are_set_apart() -> None:
    layer = layer_of()
    layer.weight[:, [3, 40, 77]] *= 20

    result = BiLLM(group_size=32).quantize(layer)

    assert result.apart is not None
    assert result.apart[[3, 40, 77]].all()
    assert result.facts["salient columns"] == pytest.approx(float(result.apart.float().mean()))


@pytest.mark.parametrize("columns", [96, 80, 20])
def test_a_packed_layer_comes_back_bit_for_bit_ragged_groups_too(columns: int) -> None:
    result = BiLLM(group_size=32).quantize(layer_of(columns=columns))
    form = format_named("hubq")

    packed = form.pack("layer", result)

    back = form.unpack("layer", packed, form.config({"layer": result}, []))
    assert torch.equal(back.dequantize(), result.dequantize())


def test_layers_solved_together_are_as_if_solved_alone() -> None:
    first = layer_of()
    second = Layer("other", torch.randn(5, 96), first.inputs)
    method = BiLLM(group_size=32)

    together = method.quantize_group(Group((first, second)))

    alone = [method.quantize(first), method.quantize(second)]
    assert [each.dequantize().tolist() for each in together] == [
        each.dequantize().tolist() for each in alone
    ]


def test_inputs_of_next_to_no_energy_leave_the_weights_finite() -> None:
    layer = layer_of()
    gram_of(layer)[5] = gram_of(layer)[:, 5] = 0
    gram_of(layer)[9] *= 1e-15
    gram_of(layer)[:, 9] *= 1e-15

    result = BiLLM(group_size=32).quantize(layer)

    assert torch.isfinite(result.dequantize()).all()
