"""QuIP: the rounding against textbook arithmetic in float64, and what the frame is worth."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hubq.formats import format_named
from hubq.methods import Inputs, Layer
from hubq.methods.gptq import GPTQ
from hubq.methods.quip import GAUSSIAN, QuIP
from hubq.tensors import Codebook, QuantizedTensor, Rotated, values
from hubq.tensors.composed import rotate
from hubq.tensors.gram import rotate_gram


def layer_of(out: int, columns: int, *, outlier: float = 1) -> Layer:
    """Return a random layer with correlated inputs, one of which may be very large."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, columns, generator=random) @ torch.randn(
        columns, columns, generator=random
    )
    inputs[:, columns // 3] *= outlier
    weight = torch.randn(out, columns, generator=random) / 10
    return Layer("model.layers.0.mlp.up_proj", weight, Inputs(300, inputs.T @ inputs))


def lost(layer: Layer, result: QuantizedTensor) -> float:
    """Return the part of the output's energy that is lost."""
    assert layer.inputs.gram is not None
    gram, weight = layer.inputs.gram.double(), layer.weight.double()
    error = result.dequantize().double() - weight
    return float(((error @ gram) * error).sum() / ((weight @ gram) * weight).sum())


def frame(layer: Layer, result: Rotated) -> tuple[Tensor, Tensor]:
    """Return the layer's weight and Gram matrix as they were rounded, float64."""
    assert layer.inputs.gram is not None
    stretch = result.diagonal.float()
    weight = rotate(layer.weight * stretch, result.seed)
    gram = rotate_gram(layer.inputs.gram / stretch.outer(stretch), len(weight), result.seed)
    return weight.double(), gram.double()


def slow_codes(weight: Tensor, hessian: Tensor, levels: Tensor) -> Tensor:  # levels (out, entries)
    """Round each column to what is best if the columns after it could still be any numbers."""
    errors = torch.zeros_like(weight)
    codes = torch.zeros(weight.shape, dtype=torch.uint8)
    for i in range(weight.shape[1]):
        rest = hessian[i:, i:]
        best = weight[:, i] + torch.linalg.solve(rest, hessian[i:, :i] @ errors[:, :i].T)[0]
        codes[:, i] = (best[:, None] - levels).abs().argmin(1)
        errors[:, i] = weight[:, i] - levels.gather(1, codes[:, i : i + 1].long())[:, 0]
    return codes


# Takes some seconds where the loop over columns is compiled for the first time.
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_columns_are_rounded_as_the_textbook_says(bits: int) -> None:
    layer = layer_of(24, 150)

    result = QuIP.model_validate({"bits": bits}).quantize(layer)

    assert isinstance(result.inner, Codebook)
    weight, hessian = frame(layer, result)
    order = hessian.diagonal().argsort(descending=True)
    hessian += torch.eye(150) * (0.01 * hessian.diagonal().mean())
    levels = (result.inner.table * values(result.inner.scale)).double()
    expected = slow_codes(weight[:, order], hessian[order][:, order], levels)[:, order.argsort()]
    # float32 against float64: a weight half-way between two levels may go either way.
    assert (result.inner.codes == expected).float().mean() > 0.98


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_each_level_is_the_mean_of_the_gaussian_draws_nearest_to_it(bits: int) -> None:
    upper = torch.tensor(GAUSSIAN[bits], dtype=torch.float64)
    draws = torch.special.ndtri((torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 2e6 + 0.5)

    nearest = (draws[:, None] - upper).abs().argmin(1)

    means = [draws[nearest == level].mean() for level in range(len(upper))]
    torch.testing.assert_close(torch.stack(means), upper, rtol=0, atol=2e-3)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_less_is_lost_than_by_gptq_without_groups(bits: int) -> None:
    layer = layer_of(48, 144, outlier=30)
    gptq = GPTQ.model_validate({"bits": bits, "group_size": -1})

    result = QuIP.model_validate({"bits": bits}).quantize(layer)

    assert lost(layer, result) < lost(layer, gptq.quantize(layer))


def test_an_input_with_nearly_all_the_energy_is_not_clipped() -> None:
    layer = layer_of(64, 144, outlier=1000)

    result = QuIP(bits=4).quantize(layer)

    assert lost(layer, result) < 1e-4


def test_passes_end_where_no_code_is_better_changed_alone() -> None:
    layer = layer_of(6, 40)
    result = QuIP(bits=2, passes=50).quantize(layer)
    assert isinstance(result.inner, Codebook)
    inner = result.inner
    weight, gram = frame(layer, result)
    levels = (inner.table * values(inner.scale)).double()  # (out, entries)

    errors = weight - inner.dequantize().double()

    for column in range(40):
        alone = (weight[:, column, None] - levels) - errors[:, column, None]
        gradient = (errors @ gram[:, column])[:, None]
        change = 2 * alone * gradient + alone.square() * gram[column, column]
        assert change.min() > -1e-4 * gram[column, column]


def test_a_pass_loses_less() -> None:
    layer = layer_of(48, 144)

    losses = [lost(layer, QuIP(bits=2, passes=passes).quantize(layer)) for passes in (0, 1, 3)]

    assert losses == sorted(losses, reverse=True)


def test_what_is_packed_comes_back_to_the_bit() -> None:
    layer = layer_of(7, 39)
    result = QuIP(bits=3).quantize(layer)
    form = format_named("hubq")

    packed = form.pack("up", result)

    back = form.unpack("up", packed, form.config({"up": result}, []))
    assert torch.equal(back.dequantize(), result.dequantize())
    payload = sum(each.nbytes for each in packed.values())
    assert result.stored_bits() == pytest.approx(8 * payload / (7 * 39), rel=0.02)


def test_each_layer_has_a_rotation_of_its_own() -> None:
    first = layer_of(8, 24)
    second = replace(first, name="model.layers.1.mlp.up_proj")

    seeds = [QuIP().quantize(layer).seed for layer in (first, second, first)]

    assert seeds[0] == seeds[2] != seeds[1]


def test_another_seed_turns_otherwise() -> None:
    layer = layer_of(8, 24)

    first, second = QuIP().quantize(layer), QuIP(seed=1).quantize(layer)

    assert first.seed != second.seed


def test_inputs_that_no_token_used_keep_their_weights_size() -> None:
    layer = layer_of(16, 48)
    assert layer.inputs.gram is not None
    layer.inputs.gram[5] = layer.inputs.gram[:, 5] = 0

    result = QuIP(bits=4).quantize(layer)

    assert (result.dequantize()[:, 5] - layer.weight[:, 5]).abs().max() < 0.2


def test_a_layer_of_zeros_stays_one() -> None:
    layer = replace(layer_of(8, 24), weight=torch.zeros(8, 24))

    result = QuIP().quantize(layer)

    assert torch.equal(result.dequantize(), torch.zeros(8, 24))


def test_damping_that_had_to_be_raised_is_recorded() -> None:
    indefinite = torch.eye(4)
    indefinite[0, 1] = indefinite[1, 0] = 1.05
    layer = Layer("layer", torch.randn(2, 4), Inputs(1, indefinite))

    result = QuIP().quantize(layer)

    assert result.facts["damping"] > 0.01
