"""Scales that are trained: their gradients, where they begin, and what is kept of them."""

from dataclasses import replace

import made_tensors
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from hubq.methods.adapters.branches.scales import Scales
from hubq.methods.adapters.peqa import PEQA
from hubq.runtime import pieces
from hubq.tensors import SMALLEST_SCALE, Affine, Grid

OUT, COLUMNS = 12, 40
KINDS = {
    "groups": (16, False),  # the last is ragged
    "symmetric groups": (8, True),
    "whole rows": (COLUMNS, False),
    "symmetric whole rows": (COLUMNS, True),
}


def tensor(kind: str, bits: int = 3) -> Affine:
    torch.manual_seed(1)
    size, symmetric = KINDS[kind]
    return made_tensors.affine((OUT, COLUMNS), bits, size, symmetric=symmetric)


def weight(quantized: Affine, change: Tensor) -> Tensor:
    """Return the weights in float64 by the definition."""
    group = torch.arange(COLUMNS) // quantized.group_size
    start = quantized.scales.double()
    zero = quantized.middle if quantized.zero is None else quantized.zero.double()[:, group]
    scales = start * (change.double() / start.mean()).exp()
    return (quantized.codes.double() - zero) * scales[:, group]


def differences(quantized: Affine, change: Tensor, inputs: Tensor, wanted: Tensor) -> Tensor:
    """Return how the loss changes with each number, by finite differences in float64."""
    step, found = 1e-5, torch.empty(change.shape)
    for place in range(change.numel()):
        losses = []
        for sign in (1, -1):
            moved = change.double().clone()
            moved.view(-1)[place] += sign * step
            outputs = inputs.double() @ weight(quantized, moved).T
            losses.append(float((outputs - wanted.double()).square().sum()))
        found.view(-1)[place] = (losses[0] - losses[1]) / (2 * step)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_each_scale_is_that_of_finite_differences(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "IN_CACHE", 5 * COLUMNS)  # rows in three pieces
    quantized, inputs, wanted = tensor(kind), torch.randn(2, 3, COLUMNS), torch.randn(2, 3, OUT)
    layer = Scales(quantized)
    with torch.no_grad():
        layer.change.copy_(torch.randn(layer.change.shape) / 10)

    (layer(inputs) - wanted).square().sum().backward()

    expected = differences(quantized, layer.change.detach(), inputs, wanted)
    assert layer.change.grad is not None
    torch.testing.assert_close(layer.change.grad, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_goes_through_to_the_inputs(kind: str) -> None:
    quantized, inputs = tensor(kind), torch.randn(5, COLUMNS, requires_grad=True)
    layer = Scales(quantized)
    given = torch.randn(5, OUT)

    layer(inputs).backward(given)

    torch.testing.assert_close(inputs.grad, given @ quantized.dequantize())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_step_it_is_the_quantized_linear_bit_for_bit(
    kind: str, dtype: torch.dtype
) -> None:
    quantized, bias = tensor(kind), torch.randn(OUT, dtype=dtype)
    inputs = torch.randn(5, COLUMNS, dtype=dtype)

    layer = Scales(quantized, bias)

    assert torch.equal(layer(inputs), linear(inputs, quantized.dequantize(dtype), bias))
    assert made_tensors.same(layer.finished(), quantized)


def test_weights_are_rounded_as_their_readers_do() -> None:
    quantized, inputs = tensor("groups", bits=8), torch.randn(5, COLUMNS)

    layer = Scales(quantized, None, torch.bfloat16)

    rounded = quantized.dequantize(torch.bfloat16).float()
    assert not torch.equal(rounded, quantized.dequantize())
    assert torch.equal(layer(inputs), linear(inputs, rounded))


def test_codes_and_zeros_stay_and_no_scale_changes_its_sign() -> None:
    quantized = tensor("groups")
    layer = Scales(quantized)
    with torch.no_grad():
        layer.change.copy_(100 * torch.randn(layer.change.shape))

    found = layer.finished()

    assert made_tensors.same(replace(found, scale=quantized.scale), quantized)
    assert found.scales.dtype == quantized.scales.dtype
    assert (found.scales >= SMALLEST_SCALE).all()
    assert found.scales.isfinite().all()
    assert not torch.equal(found.scales, quantized.scales)


def test_what_is_trained_is_measured_in_mean_scales() -> None:
    quantized = replace(tensor("groups"), scale=torch.rand(OUT, 3) + 0.1)
    layer, step = Scales(quantized), 1e-4
    mean = quantized.scales.mean()

    with torch.no_grad():
        layer.change.add_(step)

    moved = layer.scales - quantized.scales
    torch.testing.assert_close(
        moved / quantized.scales, (step / mean).expand(OUT, 3), rtol=1e-2, atol=0
    )


def test_it_learns_scales_that_are_known() -> None:
    quantized, inputs = tensor("groups"), torch.randn(64, COLUMNS)
    better = replace(quantized, scale=quantized.scales * (1 + torch.rand(OUT, 3) / 4).bfloat16())
    layer = Scales(quantized)
    optimizer = torch.optim.AdamW([layer.change], lr=0.02, weight_decay=0)

    for _ in range(200):
        optimizer.zero_grad()
        (layer(inputs) - inputs @ better.dequantize().T).square().mean().backward()
        optimizer.step()

    torch.testing.assert_close(layer.finished().scales, better.scales, rtol=1e-2, atol=0)


def test_it_is_trained_on_another_device(device: torch.device) -> None:
    quantized, inputs, given = tensor("groups"), torch.randn(5, COLUMNS), torch.randn(5, OUT)
    here, there = Scales(quantized), Scales(quantized).to(device)

    here(inputs).backward(given)
    there(inputs.to(device)).backward(given.to(device))

    assert here.change.grad is not None
    assert there.change.grad is not None
    torch.testing.assert_close(there.change.grad.cpu(), here.change.grad)
    assert there.finished().codes.device.type == device.type


def test_what_has_no_plain_scales_and_what_rounds_inputs_is_refused() -> None:
    given = Affine.sketch((16, 64), Grid(4, 32))
    peqa = PEQA.model_validate({"dataset": {"file": "/pairs.jsonl"}})

    assert peqa.why_unsupported(given) is None
    for other in (
        replace(given, activation_bits=8),
        made_tensors.nested((8, 32), 2, 16),
        made_tensors.codebook((8, 32), shared=False),
    ):
        reason = peqa.why_unsupported(other)
        assert reason is not None
        assert "use rtn, gptq or awq" in reason
