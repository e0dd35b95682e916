"""Every method in the hubq format: exact, and in no more bits than the method needs."""

from typing import get_args

import pytest
import torch
from made_tensors import same

from hubq.formats.hubq import FORMAT
from hubq.methods import Inputs, Layer, Method, method_class, methods
from hubq.tensors import QuantizedTensor

LLAMA3_8B = ((4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336))


def settings(name: str) -> list[Method]:
    """Return a method at each of its bit widths, or with and without shifts."""
    kind = method_class(name)
    if "shift" in kind.model_fields:
        return [kind.model_validate({"shift": shift}) for shift in (False, True)]
    field = kind.model_fields.get("bits")
    widths = [] if field is None else get_args(field.annotation)
    return [kind.model_validate({"bits": bits}) for bits in widths] or [kind()]


def held() -> list[str]:
    """List the methods whose results the format holds."""
    return [name for name in methods() if FORMAT.why_unsupported(sketch(settings(name)[0])) is None]


def sketch(method: Method, shape: tuple[int, int] = LLAMA3_8B[0]) -> QuantizedTensor:
    return method.sketch(shape, torch.bfloat16)


def file_bits(tensor: QuantizedTensor) -> float:
    """Return the bits that a module takes in the file."""
    return 8 * sum(each.nbytes for each in FORMAT.pack("m", tensor).values())


def small(name: str) -> Method:
    """Return a method with groups that fit a small layer."""
    kind = method_class(name)
    return kind.model_validate({"group_size": 64} if "group_size" in kind.model_fields else {})


@pytest.fixture(scope="module", params=held())
def results(request: pytest.FixtureRequest) -> tuple[QuantizedTensor, QuantizedTensor]:
    """Return what a method estimates of a layer, and what it makes of it."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 512, generator=random) * torch.logspace(-1, 1, 512)
    magnitude = inputs.abs()
    statistics = Inputs(500, inputs.T @ inputs, magnitude.mean(0), magnitude.amax(0), inputs[::4])
    layer = Layer("layer", torch.randn(256, 512, generator=random) / 10, statistics)
    method = small(request.param)
    return sketch(method, (256, 512)), method.quantize(layer)


@pytest.mark.parametrize("name", held())
def test_a_file_takes_no_more_than_two_percent_beyond_what_is_needed(name: str) -> None:
    for method in settings(name):
        for shape in LLAMA3_8B:
            estimated = sketch(method, shape)

            needed = estimated.theoretical_bits() * shape[0] * shape[1]

            assert file_bits(estimated) < 1.02 * needed


def test_a_real_result_takes_no_more_than_two_percent_either(
    results: tuple[QuantizedTensor, QuantizedTensor],
) -> None:
    _, result = results

    needed = result.theoretical_bits() * 256 * 512

    assert file_bits(result) < 1.02 * needed


def test_bits_are_counted_as_they_are_stored(
    results: tuple[QuantizedTensor, QuantizedTensor],
) -> None:
    _, result = results

    counted = result.stored_bits() * 256 * 512

    assert counted == pytest.approx(file_bits(result), rel=0.01)


def test_a_result_comes_back_bit_for_bit(
    results: tuple[QuantizedTensor, QuantizedTensor],
) -> None:
    _, result = results

    back = FORMAT.unpack("m", FORMAT.pack("m", result), FORMAT.config({"m": result}, []))

    assert same(result, back)
    assert torch.equal(result.dequantize(), back.dequantize())


def test_the_config_is_known_without_data(
    results: tuple[QuantizedTensor, QuantizedTensor],
) -> None:
    known, result = results

    config = FORMAT.config({"m": known}, [])

    assert config == FORMAT.config({"m": result}, [])
