"""Floats with scales: how elements are rounded, and that nothing depends on where they are cut."""

import pytest
import torch
from torch import Tensor

from hubq.methods import Inputs, Layer, method_class
from hubq.runtime import pieces
from hubq.tensors import Floating
from hubq.tensors.floating import E2M1, MAGNITUDES, e2m1_values, nearest
from hubq.tensors.thin import Thin

WAYS = (
    {"name": "fp8"},
    {"name": "fp8", "scales": "block"},
    {"name": "nvfp4"},
    {"name": "mxfp4"},
)


def made(options: dict[str, str], rows: int = 200) -> Floating:
    weight = torch.randn(rows, 256, generator=torch.Generator().manual_seed(0))
    kind = method_class(options["name"])
    method = kind.model_validate({key: each for key, each in options.items() if key != "name"})
    found = method.quantize(Layer("layer", weight, Inputs(0)))
    assert isinstance(found, Floating)
    return found


def codes_of(tensor: Floating) -> Tensor:
    return tensor.codes.view(torch.uint8)


def test_a_number_becomes_the_nearest_element_and_a_tie_the_even_one() -> None:
    numbers = torch.linspace(-8, 8, 1025)
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])

    found = e2m1_values(nearest(numbers, E2M1))

    levels = torch.tensor([*MAGNITUDES, *(-each for each in MAGNITUDES)])
    least = (numbers[:, None] - levels).abs().amin(1)
    assert torch.equal((numbers - found).abs(), least)
    assert e2m1_values(nearest(ties, E2M1)).tolist() == [0, 1, 1, 2, 2, 4, 4]
    assert nearest(torch.tensor([-0.1, -0.0]), E2M1).tolist() == [0, 0]


def test_each_code_stands_for_its_element() -> None:
    codes = torch.arange(16, dtype=torch.uint8)

    assert e2m1_values(codes).abs().tolist() == [*MAGNITUDES, *MAGNITUDES]
    assert (e2m1_values(codes)[9:] < 0).all()


@pytest.mark.parametrize("options", WAYS, ids=lambda each: "-".join(each.values()))
def test_nothing_depends_on_where_rows_are_cut(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(options)

    monkeypatch.setattr(pieces, "IN_CACHE", 3 * 256 + 5)
    cut = made(options)

    assert torch.equal(codes_of(cut), codes_of(whole))
    assert torch.equal(cut.scale.view(torch.uint8), whole.scale.view(torch.uint8))
    assert torch.equal(cut.dequantize(), whole.rows(slice(None)))


@pytest.mark.parametrize("options", WAYS, ids=lambda each: "-".join(each.values()))
def test_floats_come_back_from_little_memory_as_they_were(options: dict[str, str]) -> None:
    tensor = made(options)

    thin = Thin(tensor)

    assert thin.nbytes <= 1.01 * tensor.stored_bits() * tensor.codes.numel() / 8
    assert torch.equal(thin.dequantize(torch.bfloat16), tensor.dequantize(torch.bfloat16))
