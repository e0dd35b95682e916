"""What every method keeps to: these tests run over whatever files there are."""

from typing import get_args

import pytest
import torch
from safetensors.torch import save

from hubq.method import Group, Inputs, Layer, Method, method_class, methods


@pytest.fixture
def layer() -> Layer:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 128, generator=random) * torch.logspace(-1, 1, 128)
    weight = torch.randn(64, 128, generator=random) / 10
    magnitude = inputs.abs()
    return Layer(
        "model.layers.0.mlp.up_proj",
        weight,
        Inputs(400, inputs.T @ inputs, magnitude.mean(0), magnitude.amax(0)),
    )


@pytest.fixture(params=methods())
def method(request: pytest.FixtureRequest) -> Method:
    return method_class(request.param)(**{"group_size": 32})


def test_a_method_says_what_it_is(method: Method) -> None:
    assert method.title
    assert method.paper.startswith("https://arxiv.org/")
    assert method.bibtex.startswith("@")
    assert (type(method).__doc__ or "").endswith(".")


def test_a_result_has_the_layers_shape_and_finite_weights(method: Method, layer: Layer) -> None:
    result = method.quantize(layer)

    assert result.shape == (64, 128)
    assert torch.isfinite(result.dequantize()).all()


def test_a_result_is_close_to_the_layer(method: Method, layer: Layer) -> None:
    result = method.quantize(layer)

    error = (result.dequantize() - layer.weight).norm() / layer.weight.norm()
    assert error < 0.25


def test_a_plan_foretells_the_stored_bits(method: Method, layer: Layer) -> None:
    sketch = method.sketch((64, 128), layer.scale_dtype)

    assert sketch.stored_bits() == pytest.approx(method.quantize(layer).stored_bits())


def test_the_same_layer_gives_the_same_tensor(method: Method, layer: Layer) -> None:
    first, second = method.quantize(layer), method.quantize(layer)

    assert torch.equal(first.dequantize(), second.dequantize())


def test_a_method_leaves_its_layer_alone(method: Method, layer: Layer) -> None:
    assert layer.inputs.gram is not None
    weight, gram = layer.weight.clone(), layer.inputs.gram.clone()

    if method.folds:
        method.scale(Group((layer,)))
    method.quantize(layer)

    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.inputs.gram, gram)


@pytest.mark.parametrize("name", methods())
def test_more_bits_never_hurt(name: str, layer: Layer) -> None:
    kind = method_class(name)
    widths = sorted(get_args(kind.model_fields["bits"].annotation))

    results = [kind(**{"bits": bits, "group_size": 32}).quantize(layer) for bits in widths]

    errors = [lost(layer, result.dequantize()) for result in results]

    assert errors == sorted(errors, reverse=True)


def test_a_group_size_that_leaves_a_rest_is_a_mistake_with_a_way_out() -> None:
    mistake = method_class("rtn")(**{"group_size": 128}).mistake((64, 576))

    assert mistake == "group_size 128 does not divide 576 inputs; use 32 or 64 or -1 (a whole row)"


def test_a_weight_costs_what_its_file_says(layer: Layer) -> None:
    from hubq.format import format_named

    result = method_class("rtn")(**{"group_size": 32}).quantize(layer)

    packed = format_named("compressed-tensors").pack("layer", result)
    payload = sum(each.nbytes for name, each in packed.items() if not name.endswith("_shape"))
    assert len(save(packed)) > payload
    assert result.stored_bits() == pytest.approx(8 * payload / layer.weight.numel())


def test_awq_scales_up_the_channels_that_carry_most(layer: Layer) -> None:
    factor = method_class("awq")(**{"bits": 3, "group_size": 32}).scale(Group((layer,)))

    assert factor[-16:].mean() > factor[:16].mean()


def test_awq_loses_less_of_the_output_than_rounding_does(layer: Layer) -> None:
    method = method_class("awq")(**{"bits": 3, "group_size": 32})
    group = Group((layer,))
    factor = method.scale(group)

    (result,) = method.quantize_group(group.scaled(factor))

    rounded = method_class("rtn")(**{"bits": 3, "group_size": 32}).quantize(layer)
    assert lost(layer, result.dequantize() / factor) < lost(layer, rounded.dequantize())


def lost(layer: Layer, dequantized: torch.Tensor) -> float:
    """Return the squared error of the layer's output on the calibration tokens."""
    assert layer.inputs.gram is not None
    error = dequantized - layer.weight
    return float(((error @ layer.inputs.gram) * error).sum())
