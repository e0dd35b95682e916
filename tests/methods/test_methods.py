"""What every method keeps to: these tests run over whatever files there are."""

from typing import get_args

import pytest
import torch
from safetensors.torch import save

from hubq.formats import format_named, formats
from hubq.methods import Group, Inputs, Layer, Method, method_class, methods
from hubq.tensors import Masked, Mixed


def made(name: str, **options: object) -> Method:
    """Return a method with groups that fit the layer of these tests."""
    kind = method_class(name)
    small = {"group_size": 32} if "group_size" in kind.model_fields else {}
    return kind.model_validate(small | options)


def widths(name: str) -> list[int]:
    """List the bits that a method can have, if that is one of its options."""
    field = method_class(name).model_fields.get("bits")
    return [] if field is None else sorted(get_args(field.annotation))


@pytest.fixture
def layer() -> Layer:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 128, generator=random) * torch.logspace(-1, 1, 128)
    weight = torch.randn(64, 128, generator=random) / 10
    magnitude = inputs.abs()
    return Layer(
        "model.layers.0.mlp.up_proj",
        weight,
        Inputs(400, inputs.T @ inputs, magnitude.mean(0), magnitude.amax(0), inputs[::4]),
    )


@pytest.fixture(params=methods())
def method(request: pytest.FixtureRequest) -> Method:
    return made(request.param)


def test_a_method_says_what_it_is(method: Method) -> None:
    assert method.title
    assert method.paper.startswith("https://arxiv.org/")
    assert method.bibtex.startswith("@")
    assert (type(method).__doc__ or "").endswith(".")


def test_a_result_has_the_layers_shape_and_finite_weights(method: Method, layer: Layer) -> None:
    result = method.quantize(layer)

    assert result.shape == (64, 128)
    assert torch.isfinite(result.dequantize()).all()


def test_a_result_keeps_most_of_the_layers_output(method: Method, layer: Layer) -> None:
    result = method.quantize(layer)

    error = lost(layer, result.dequantize()) / lost(layer, torch.zeros_like(layer.weight))
    assert error < (0.03 if method.nominal_bits >= 4 else 0.35)


def test_a_plan_estimates_the_stored_bits(method: Method, layer: Layer) -> None:
    sketch = method.sketch((64, 128), layer.scale_dtype)

    # How many groups get another width, and how well a bitmap is coded, only data decides.
    nearly = 0.1 if isinstance(sketch, Masked | Mixed) else 0.02
    stored = method.quantize(layer).stored_bits()
    assert sketch.stored_bits() == pytest.approx(stored, rel=nearly)


def test_a_result_is_stored_in_little_more_than_its_nominal_bits(method: Method) -> None:
    bits = method.sketch((4096, 4096), torch.bfloat16).stored_bits()

    assert method.nominal_bits <= bits < method.nominal_bits + 2


def test_some_format_holds_a_methods_result(method: Method) -> None:
    sketch = method.sketch((64, 128), torch.bfloat16)

    assert any(format_named(name).why_unsupported(sketch) is None for name in formats())


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


@pytest.mark.parametrize("name", [name for name in methods() if widths(name)])
def test_more_bits_never_hurt(name: str, layer: Layer) -> None:
    results = [made(name, bits=bits).quantize(layer) for bits in widths(name)]

    errors = [lost(layer, result.dequantize()) for result in results]

    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("name", ["rtn", "gptq", "awq"])
@pytest.mark.parametrize("bits", [3, 4])
def test_integers_can_have_inputs_of_8_bits(name: str, bits: int, layer: Layer) -> None:
    method = made(name, bits=bits, symmetric=True, activations=8)

    result = method.quantize(layer)

    form = format_named("compressed-tensors")
    assert form.why_unsupported(result) is None
    (group,) = form.config({layer.name: result}, [])["config_groups"].values()
    assert group["input_activations"]["num_bits"] == method.activation_bits == 8
    assert method.sketch((64, 128), torch.bfloat16).activation_bits == 8  # type: ignore[attr-defined]
    assert torch.equal(
        result.dequantize(), made(name, bits=bits, symmetric=True).quantize(layer).dequantize()
    )
    assert method.served_by("compressed-tensors") == ["vLLM"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"bits": 4}, "symmetric: true alone"),
        ({"bits": 8, "symmetric": True}, "group_size: -1 alone"),
    ],
)
def test_inputs_of_8_bits_are_refused_where_no_kernel_has_them(
    options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        made("rtn", activations=8, **options)


def test_a_group_size_that_leaves_a_rest_is_a_mistake_with_a_way_out() -> None:
    mistake = method_class("rtn")(**{"group_size": 128}).why_unsupported((64, 576))

    assert mistake == "group_size 128 does not divide 576 inputs; use 32 or 64 or -1 (a whole row)"


def test_a_weight_costs_what_its_file_says(layer: Layer) -> None:
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
