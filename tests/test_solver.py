"""The column solver against slow and obvious arithmetic in float64."""

import pytest
import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.method import Inputs, Layer
from hubq.methods.gptq import GPTQ
from hubq.solver import factorize
from hubq.tensors import Affine


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
        factorize(hopeless, torch.arange(3), 0.01, "model.layers.7.mlp.up_proj")


def test_layers_solved_together_are_as_if_solved_alone() -> None:
    from hubq.method import Group

    first = layer_of(8, 32)
    second = Layer("other", torch.randn(5, 32), first.inputs)
    method = GPTQ(bits=4, group_size=16)

    together = method.quantize_group(Group((first, second)))

    alone = [method.quantize(first), method.quantize(second)]
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(together, alone, strict=True))
