"""SmoothQuant: the factors, where they go, and what is left of the outputs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hubq.client.client import Client
from hubq.methods import Group, Inputs, Layer
from hubq.methods.smoothquant import SmoothQuant
from hubq.records.recipe_inputs import ModelSection
from hubq.stages.plan.plan import plan
from hubq.stages.recipe.recipe import read

RECIPES = Path(__file__).parents[2] / "recipes"


def tokens(channels: int = 48) -> torch.Tensor:
    """Return inputs of which a few channels are far larger than the rest."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, channels, generator=random)
    inputs[:, ::16] *= 40
    return inputs


def group(inputs: torch.Tensor) -> Group:
    """Return two layers that read the same inputs."""
    random = torch.Generator().manual_seed(1)
    seen = Inputs(len(inputs), max_magnitude=inputs.abs().amax(0))
    return Group(
        tuple(
            Layer(name, torch.randn(rows, inputs.shape[1], generator=random), seen)
            for name, rows in (("gate_proj", 32), ("up_proj", 24))
        )
    )


def rounded(matrix: torch.Tensor, bits: int) -> torch.Tensor:
    """Round each row to 2^bits levels about 0, one number at a time, in float64."""
    half = 2 ** (bits - 1)
    rows = []
    for row in matrix.double().tolist():
        scale = max(map(abs, row)) / (half - 0.5)
        rows.append([max(-half, min(half - 1, round(x / scale))) * scale for x in row])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.85, 1.0])
def test_a_factor_weighs_the_greatest_input_against_the_greatest_weight(alpha: float) -> None:
    inputs = tokens()
    layers = group(inputs)

    factor = SmoothQuant(alpha=alpha).scale(layers)

    for channel in range(48):
        x = max(abs(float(token[channel])) for token in inputs)
        w = max(abs(float(row[channel])) for layer in layers.layers for row in layer.weight)
        assert float(factor[channel]) == pytest.approx(x**alpha / w ** (1 - alpha), rel=1e-5)


def test_the_factor_is_one_that_the_writer_holds_exactly() -> None:
    given = group(tokens())
    to_powers_of_two = Group(given.layers, lambda factor: 2.0 ** factor.log2().round())

    factor = SmoothQuant().scale(to_powers_of_two)

    assert torch.equal(factor.log2(), factor.log2().round())


def test_a_channel_that_no_token_used_stays_as_it_is() -> None:
    inputs = tokens()
    inputs[:, 5] = 0

    factor = SmoothQuant().scale(group(inputs))

    assert factor[5] == 1


def test_a_column_without_weights_has_a_finite_factor() -> None:
    layers = group(tokens())
    for layer in layers.layers:
        layer.weight[:, 7] = 0

    factor = SmoothQuant().scale(layers)

    assert torch.isfinite(factor).all()


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_a_weight_becomes_the_nearest_of_all_levels_that_its_row_has(bits: int) -> None:
    weight = torch.randn(12, 30, generator=torch.Generator().manual_seed(2))
    layer = Layer("up_proj", weight, Inputs(0))

    result = SmoothQuant(bits=bits).quantize(layer)

    levels = range(-(2 ** (bits - 1)), 2 ** (bits - 1))
    for number, row in enumerate(weight.double().tolist()):
        scale = float(result.scales[number, 0])
        assert 1 <= scale / (max(map(abs, row)) / (2 ** (bits - 1) - 0.5)) < 1.01
        for given, found in zip(row, result.dequantize()[number].tolist(), strict=True):
            nearest = min(abs(given - level * scale) for level in levels)
            assert abs(given - found) == pytest.approx(nearest, abs=1e-6)


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_the_result_asks_for_activations_of_as_many_bits(bits: int) -> None:
    method = SmoothQuant(bits=bits)

    sketch = method.sketch((64, 96), torch.bfloat16)

    layer = Layer("up_proj", torch.ones(64, 96), Inputs(0))
    assert sketch.activation_bits == method.quantize(layer).activation_bits == bits


@pytest.mark.parametrize("bits", [8, 6])
def test_smoothing_loses_less_of_the_output_than_rounding_alone(bits: int) -> None:
    inputs = tokens()
    plain = group(inputs)
    exact = [inputs.double() @ layer.weight.double().T for layer in plain.layers]
    method = SmoothQuant(bits=bits, alpha=0.5)
    factor = method.scale(plain)

    losses = []
    for divided, layers in ((inputs / factor, plain.scaled(factor)), (inputs, plain)):
        seen = rounded(divided, bits)
        results = method.quantize_group(layers)
        outputs = [seen @ result.dequantize().double().T for result in results]
        losses.append(sum(float((a - b).norm()) for a, b in zip(outputs, exact, strict=True)))

    assert losses[0] < 0.5 * losses[1]


def test_a_quantized_head_has_whole_symmetric_rows_as_the_linears_do(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    recipe = read(RECIPES / "smoothquant_8bit.yaml")
    changed = {"model": ModelSection(folder=tiny_model("llama3-8b")), "embeddings": 8}

    planned = plan(recipe.model_copy(update=changed), tmp_path, Client())

    (head,) = (module for module in planned.modules if module.name == "lm_head")
    assert head.quantized
    assert head.bits == pytest.approx(8 + 16 / 128, abs=0.1)
