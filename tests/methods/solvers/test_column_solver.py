"""The column solver against slow and obvious arithmetic in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.methods import Inputs, Layer
from hubq.methods.gptq import GPTQ
from hubq.methods.solvers.column_solver import Rounding, foreseen, prepare
from hubq.tensors import Affine, Grid
from hubq.tensors.kernels.column_rounding import Levels, round_columns

ZEROS = torch.zeros(6, dtype=torch.int64)


def layer_of(out: int, columns: int, seed: int = 0) -> Layer:
    """Return a random layer whose inputs are correlated and of very different sizes."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(300, columns, generator=random) @ torch.randn(
        columns, columns, generator=random
    )
    inputs *= torch.logspace(0, 2, columns)[torch.randperm(columns, generator=random)]
    weight = torch.randn(out, columns, generator=random)
    return Layer("layer", weight, Inputs(300, inputs.T @ inputs))


def output_error(layer: Layer, result: Affine) -> float:
    assert layer.inputs.gram is not None
    error = (result.dequantize() - layer.weight).double()
    return float(((error @ layer.inputs.gram.double()) * error).sum())


def slow_gptq(layer: Layer, method: GPTQ, scale: Tensor, zero: Tensor, order: Tensor) -> Tensor:
    """Round as the paper's algorithm 1 says, by the explicit inverse, one column at a time."""
    assert layer.inputs.gram is not None
    hessian = 2 * layer.inputs.gram.double()[order][:, order]
    hessian += torch.eye(len(order)) * (method.damping * hessian.diagonal().mean())
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    weight = layer.weight.double()[:, order]
    codes = torch.zeros_like(weight)
    for i, place in enumerate(order.tolist()):
        step, middle = scale[:, place].double(), zero[:, place].double()
        codes[:, i] = (weight[:, i] / step).round().add(middle).clamp(0, 2**method.bits - 1)
        error = (weight[:, i] - (codes[:, i] - middle) * step) / upper[i, i]
        weight[:, i:] -= error[:, None] * upper[i, i:]
    return codes[:, order.argsort()]


@pytest.mark.parametrize("group_size", [16, -1])
@pytest.mark.parametrize("columns", [48, 300])
def test_gptq_rounds_as_the_paper_says(group_size: int, columns: int) -> None:
    layer = layer_of(20, columns)
    assert layer.inputs.gram is not None
    method = GPTQ(bits=4, group_size=group_size, clips=0)
    scale, zero = method.grid(layer.scale_dtype).span(layer.weight)
    width = method.grid(layer.scale_dtype).width(columns)
    wide = [each.repeat_interleave(width, dim=1)[:, :columns] for each in (scale.float(), zero)]
    order = layer.inputs.gram.diagonal().argsort(descending=True)

    result = method.quantize(layer)

    expected = slow_gptq(layer, method, wide[0], wide[1], order)
    # float32 against float64: a weight that lies half-way may go either way, and then its row too.
    assert (result.codes == expected).float().mean() > 0.99


def test_gptq_loses_less_of_the_output_than_rounding_does() -> None:
    layer = layer_of(32, 96)
    method = GPTQ(bits=3, group_size=32)

    solved = output_error(layer, method.quantize(layer))

    rounded = output_error(layer, Affine.fit(layer.weight, method.grid(layer.scale_dtype)))
    assert solved < rounded / 2


def test_groups_fitted_on_the_way_follow_the_moved_weights() -> None:
    layer = layer_of(32, 96)
    dynamic = GPTQ(bits=3, group_size=32, activation_order=False)

    solved = output_error(layer, dynamic.quantize(layer))

    rounded = output_error(layer, Affine.fit(layer.weight, dynamic.grid(layer.scale_dtype)))
    assert solved < rounded


def test_an_input_that_is_never_used_takes_nothing_and_gives_nothing() -> None:
    layer = layer_of(8, 32)
    assert layer.inputs.gram is not None
    layer.inputs.gram[5] = 0
    layer.inputs.gram[:, 5] = 0

    result = GPTQ(bits=4, group_size=16).quantize(layer)

    assert torch.equal(result.dequantize()[:, 5], torch.zeros(8))


def test_damping_is_raised_until_the_hessian_is_definite_and_recorded() -> None:
    indefinite = torch.eye(4)
    indefinite[0, 1] = indefinite[1, 0] = 1.05

    layer = Layer("layer", torch.randn(2, 4), Inputs(1, indefinite))
    result = GPTQ(bits=4, group_size=4, damping=0.01).quantize(layer)

    assert result.facts == {"damping": pytest.approx(0.1)}


def test_a_hessian_that_stays_singular_names_the_layer() -> None:
    hopeless = torch.full((3, 3), -1e6)

    with pytest.raises(UserError, match=r"model\.layers\.7\.mlp\.up_proj: the Hessian stays"):
        prepare(Inputs(1, hopeless), 0.01, "model.layers.7.mlp.up_proj", activation_order=False)


def test_layers_solved_together_are_as_if_solved_alone() -> None:
    from hubq.methods import Group

    first = layer_of(8, 32)
    second = Layer("other", torch.randn(5, 32), first.inputs)
    method = GPTQ(bits=4, group_size=16)

    together = method.quantize_group(Group((first, second)))

    alone = [method.quantize(first), method.quantize(second)]
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(together, alone, strict=True))


def test_levels_between_codes_binarize() -> None:
    weight, mean, alpha = torch.randn(6, 9), torch.randn(1, 9) / 3, torch.rand(1, 9) + 0.5
    binary = Levels(2 * alpha, 0.5 - mean / (2 * alpha), torch.ones(1), torch.zeros(6).long())

    codes, errors = round_columns(weight, weight, torch.zeros(6, 6), binary)

    signs = torch.where(weight > mean, 1.0, -1.0)
    assert torch.equal(codes, (weight > mean).byte())
    torch.testing.assert_close(errors, weight - (mean + alpha * signs))


def test_masked_weights_are_rounded_on_the_exceptions_levels_and_feed_back() -> None:
    weight, mask = torch.randn(6, 9), torch.rand(6, 9) < 0.3
    feedback = torch.randn(6, 6).triu(1)
    coarse = Levels(torch.full((1, 9), 0.8), torch.full((1, 9), 1.5), torch.tensor([3.0]), ZEROS)
    fine = Levels(torch.full((1, 9), 0.02), torch.full((1, 9), 128.0), torch.tensor([255.0]), ZEROS)

    _, errors = round_columns(weight, weight, feedback, coarse, (mask, fine))

    moved, expected = weight.double().clone(), torch.zeros(6, 9).double()
    for column in range(6):
        wide = (moved[column] / 0.8 + 1.5).round().clamp(0, 3)
        close = (moved[column] / 0.02 + 128).round().clamp(0, 255)
        rounded = torch.where(mask[column], (close - 128) * 0.02, (wide - 1.5) * 0.8)
        expected[column] = weight[column] - rounded
        moved += feedback[column].double()[:, None] * expected[column]
    torch.testing.assert_close(errors.double(), expected, atol=1e-5, rtol=1e-5)


def test_a_block_has_the_levels_of_its_own_groups_and_no_others() -> None:
    group = torch.tensor([5, 2, 2, 5, 0, 3, 4, 3])
    scale, zero = torch.rand(4, 6), torch.rand(4, 6)
    levels = replace(Levels.of(scale, zero, 7, group), top=torch.arange(6.0))

    scattered, neighbours = levels.at(slice(0, 4)), levels.at(slice(5, 8))

    for own, columns in ((scattered, slice(0, 4)), (neighbours, slice(5, 8))):
        assert len(own.scale) == len(own.zero) == len(own.top) == 2
        assert torch.equal(own.scale[own.group], scale.T[group[columns]])
        assert torch.equal(own.zero[own.group], zero.T[group[columns]])
        assert torch.equal(own.top[own.group], levels.top[group[columns]])
    assert neighbours.scale.data_ptr() == levels.scale[3].data_ptr()  # a view, not a copy


def test_a_pivot_is_what_an_error_costs_once_later_columns_make_up_for_it() -> None:
    layer = layer_of(1, 12)
    assert layer.inputs.gram is not None

    hessian = prepare(layer.inputs, 0.01, "layer", activation_order=True)

    gram = layer.inputs.gram.double()[hessian.order][:, hessian.order]
    gram += torch.eye(12) * (0.01 * gram.diagonal().mean())
    costs = torch.stack([1 / torch.linalg.inv(gram[k:, k:])[0, 0] for k in range(12)])
    torch.testing.assert_close(hessian.pivots.double(), costs, rtol=1e-3, atol=0)


def test_what_is_foreseen_of_a_block_is_where_gptq_moves_it() -> None:
    layer = layer_of(7, 24)
    hessian = prepare(layer.inputs, 0.01, "layer", activation_order=True)
    columns = hessian.columns(layer.weight)
    rounding = Rounding(
        hessian, layer.weight, Levels.of(*three_bits(layer), 7, ZEROS[0].expand(24))
    )
    rounding.solve()
    own, earlier = hessian.factor[12:, 12:], hessian.factor[:12, 12:]

    seen = foreseen(columns[12:], columns[12:] + earlier.T @ rounding.errors[:12], own)

    gram = torch.linalg.inv(hessian.gram(layer.inputs, 0.01)[:].double())
    upper = torch.linalg.cholesky(gram, upper=True)
    moved = columns.T.double()
    rounded = (columns - rounding.errors).T
    for i in range(12):
        moved -= (
            ((moved[:, i] - rounded[:, i]) / upper[i, i])[:, None]
            * upper[i]
            * (torch.arange(24) >= i)
        )
    torch.testing.assert_close(seen.T.double(), moved[:, 12:], atol=1e-3, rtol=1e-3)


def test_rounding_once_more_loses_less() -> None:
    layer = layer_of(16, 48)
    hessian = prepare(layer.inputs, 0.01, "layer", activation_order=True)
    group = torch.zeros(48, dtype=torch.int64)
    rounding = Rounding(hessian, layer.weight, Levels.of(*three_bits(layer), 7, group))
    rounding.solve()
    before = hessian.losses(rounding.errors[:, None])

    rounding.refine(hessian.gram(layer.inputs, 0.01))

    assert hessian.losses(rounding.errors[:, None]) < before


def test_the_losses_are_those_of_the_damped_outputs() -> None:
    layer = layer_of(6, 20)
    hessian = prepare(layer.inputs, 0.01, "layer", activation_order=True)
    errors = torch.randn(20, 3, 6)

    losses = hessian.losses(errors)

    gram = hessian.gram(layer.inputs, 0.01)[:].double()
    costs = errors.double() * torch.einsum("ij, jpo -> ipo", gram, errors.double())
    torch.testing.assert_close(losses.double(), costs.sum((0, 2)), rtol=1e-4, atol=0)


def three_bits(layer: Layer) -> tuple[Tensor, Tensor]:
    """Return each row's scale and zero."""
    return Grid(3).span(layer.weight)
