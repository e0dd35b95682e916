"""bitsandbytes as a method: the library's own numbers, and what it needs to be there."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named, formats, refusal_of
from hubq.formats.hubq import FORMAT as HUBQ
from hubq.machine import engines
from hubq.methods import Inputs, Layer
from hubq.methods.bitsandbytes import BitsAndBytes
from hubq.records.recipe_inputs import ModelSection
from hubq.stages.plan.plan import plan
from hubq.stages.recipe.recipe import read
from hubq.tensors import Codebook, values
from hubq.tensors.codebook import data_type_of, levels

RECIPES = Path(__file__).parents[2] / "recipes"
each_block_type = pytest.mark.parametrize("data_type", ["nf4", "fp4"])


@pytest.fixture
def layer() -> Layer:
    """Return a layer of bfloat16 weights, whose scales fill no whole number of blocks of 256."""
    weight = torch.randn(96, 192, generator=torch.Generator().manual_seed(0)) / 10
    weight[5] = 0
    return Layer("model.layers.0.mlp.up_proj", weight.bfloat16().float(), Inputs(0))


@each_block_type
@pytest.mark.parametrize("double", [True, False])
def test_blocks_are_dequantized_to_the_librarys_floats(
    data_type: str, double: bool, layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsandbytes import functional

    monkeypatch.setattr("hubq.runtime.pieces.IN_CACHE", 5 * 192)  # five rows at a time
    result = BitsAndBytes(data_type=data_type, double_quantization=double).quantize(layer)

    packed, state = functional.quantize_4bit(
        layer.weight, blocksize=64, compress_statistics=double, quant_type=data_type
    )
    assert torch.equal(result.dequantize(), functional.dequantize_4bit(packed, state))


def test_rows_are_dequantized_to_the_librarys_floats(layer: Layer) -> None:
    from bitsandbytes import functional

    result = BitsAndBytes(data_type="int8").quantize(layer)

    integers, greatest, _ = functional.int8_vectorwise_quant(layer.weight.half())
    assert torch.equal(result.dequantize(), functional.int8_vectorwise_dequant(integers, greatest))


@each_block_type
def test_a_weight_becomes_the_nearest_level_of_its_block(data_type: str, layer: Layer) -> None:
    method = BitsAndBytes(data_type=data_type, double_quantization=False)

    found = method.quantize(layer).dequantize().flatten().tolist()

    given = layer.weight.double().flatten().tolist()
    for start in range(0, len(given), 64 * 7):  # every seventh block
        block = given[start : start + 64]
        greatest = max(map(abs, block))
        for number, value in enumerate(block):
            nearest = min(abs(value - level * greatest) for level in levels(data_type).tolist())
            assert abs(value - found[start + number]) == pytest.approx(nearest, abs=1e-6)


def test_an_int8_weight_becomes_the_nearest_127th_of_its_rows_greatest(layer: Layer) -> None:
    found = BitsAndBytes(data_type="int8").quantize(layer).dequantize()

    for given, row in zip(layer.weight.double().tolist(), found.tolist(), strict=True):
        step = max(map(abs, given)) / 127
        for value, level in zip(given, row, strict=True):
            nearest = round(value / step) * step if step else 0.0
            # The library begins in float16, so a value near the middle may go either way.
            assert abs(value - level) == pytest.approx(abs(value - nearest), abs=2e-3 * (step + 1))


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ({"data_type": "nf4"}, 4.127),  # 4 + 8/64 + 32/(64*256)
        ({"data_type": "fp4"}, 4.127),
        ({"data_type": "nf4", "double_quantization": False}, 4.5),
        ({"data_type": "int8"}, 8 + 32 / 4096),
        ({"data_type": "nf4", "shift": True}, 4.254),  # the shifts as much as the scales
        ({"data_type": "nf4", "shift": True, "double_quantization": False}, 5),
    ],
)
def test_a_big_matrix_takes_the_bits_that_the_papers_count(
    options: dict[str, object], bits: float
) -> None:
    sketch = BitsAndBytes.model_validate(options).sketch((4096, 4096), torch.bfloat16)

    assert sketch.stored_bits() == pytest.approx(bits, abs=2e-3)


@pytest.mark.parametrize("data_type", ["nf4", "fp4"])
def test_our_levels_are_the_librarys(data_type: str) -> None:
    from bitsandbytes import functional

    theirs = functional.get_4bit_type(data_type, device="cpu")

    assert torch.equal(levels(data_type), theirs)
    assert data_type_of(theirs) == data_type


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [((48, 64), "32 divides the outputs, but there are 48"), ((64, 96), "64 divides the inputs")],
)
def test_shapes_that_the_kernels_fail_on_are_refused_with_a_way_out(
    shape: tuple[int, int], complaint: str
) -> None:
    mistake = BitsAndBytes().why_unsupported(shape)

    assert mistake is not None
    assert complaint in mistake
    assert mistake.endswith("use data_type: int8")
    assert BitsAndBytes(data_type="int8").why_unsupported(shape) is None


def code_entropy(result: Codebook) -> torch.Tensor:
    """Return the entropy in bits of each block's codes, of whole blocks."""
    codes = result.codes.view(-1, 64).long()
    shares = torch.zeros(len(codes), 16).scatter_add_(1, codes, torch.ones(codes.shape)) / 64
    return -(shares * shares.clamp(min=1e-9).log2()).sum(1)


@pytest.mark.parametrize("double", [True, False])
def test_a_shift_gives_the_codes_of_a_block_more_entropy(double: bool, layer: Layer) -> None:
    plain, shifted = (
        code_entropy(BitsAndBytes(shift=shift, double_quantization=double).quantize(layer))
        for shift in (False, True)
    )

    if not double:  # a shift in 8 bits may let a weight pass a boundary again
        assert (shifted >= plain - 1e-6).all()
    assert shifted.mean() > plain.mean() + 0.05


@pytest.mark.parametrize("double", [True, False])
def test_a_shifted_weight_is_the_nearest_level_of_what_the_shift_leaves(
    double: bool, layer: Layer
) -> None:
    result = BitsAndBytes(shift=True, double_quantization=double).quantize(layer)

    assert result.shift is not None
    rest = layer.weight.view(-1, 1, 64) - values(result.shift).view(-1, 1, 1)
    greatest = rest.abs().amax(2, keepdim=True)
    away = (rest - levels("nf4").view(1, 16, 1) * greatest).abs()
    chosen = away.gather(1, result.codes.view(-1, 1, 64).long())
    torch.testing.assert_close(chosen, away.amin(1, keepdim=True), rtol=0, atol=1e-7)
    scale = (values(result.scale) + result.offset).view(-1, 1, 1)
    torch.testing.assert_close(scale, greatest, rtol=0, atol=2e-3 if double else 0)
    level = levels("nf4")[result.codes.long()].view(-1, 1, 64)
    expected = level * scale + values(result.shift).view(-1, 1, 1)
    assert torch.equal(result.dequantize(), expected.view(result.shape))


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("shape", [(96, 192), (50, 100), (1, 7)], ids=str)
def test_shifts_of_any_shape_take_the_bits_that_were_planned(
    shape: tuple[int, int], double: bool
) -> None:
    method = BitsAndBytes(shift=True, double_quantization=double)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) / 10
    assert method.why_unsupported(shape) is None

    result = method.quantize(Layer("up_proj", weight, Inputs(0)))

    packed = HUBQ.pack("m", result)
    planned = HUBQ.pack("m", method.sketch(shape, torch.bfloat16))
    assert {name: each.shape for name, each in packed.items()} == {
        name: each.shape for name, each in planned.items()
    }
    assert (result.dequantize() - weight).abs().max() < 0.1
    config = HUBQ.config({"m": result}, [])
    assert torch.equal(HUBQ.unpack("m", packed, config).dequantize(), result.dequantize())


def test_shifts_are_those_of_a_cpu_on_any_device(layer: Layer, device: torch.device) -> None:
    method = BitsAndBytes(shift=True, double_quantization=False)

    there = method.quantize(replace(layer, weight=layer.weight.to(device)))

    here = method.quantize(layer)
    assert there.device.type == device.type
    assert torch.equal(there.dequantize().cpu(), here.dequantize())


@pytest.mark.parametrize("name", [each for each in formats() if each not in ("hubq", "dense")])
def test_other_formats_hold_no_shifts(name: str) -> None:
    sketch = BitsAndBytes(shift=True).sketch((64, 128), torch.bfloat16)

    mistake = refusal_of(format_named(name), sketch)

    assert mistake is not None
    assert "use format: hubq" in mistake


@pytest.mark.parametrize("data_type", ["fp4", "int8"])
def test_only_nf4_has_shifts(data_type: str) -> None:
    with pytest.raises(ValueError, match="leave shift out"):
        BitsAndBytes(data_type=data_type, shift=True)


def test_a_card_says_what_shifts_cost_and_what_they_are_not() -> None:
    remark = BitsAndBytes(shift=True).remark

    assert "0.1270 bits a weight more than plain NF4" in remark
    assert "that is not the error" in remark
    assert BitsAndBytes().remark == ""


def test_int8_has_no_scales_to_quantize_twice() -> None:
    with pytest.raises(ValueError, match="leave double_quantization out"):
        BitsAndBytes(data_type="int8", double_quantization=False)


def test_a_plan_without_the_library_says_how_to_install_it(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read(RECIPES / "bitsandbytes_4bit.yaml")
    changed = recipe.model_copy(update={"model": ModelSection(folder=tiny_model("llama3-8b"))})

    def nothing_installed(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(engines, "version", nothing_installed)

    with pytest.raises(UserError, match=r"pip install 'hubq\[bitsandbytes\]'"):
        plan(changed, tmp_path, Client())


@pytest.fixture(scope="module")
def fresh() -> "subprocess.CompletedProcess[str]":
    """Sketch and quantize where nothing is imported yet; torch and the library take seconds."""
    script = """
import sys, torch
from hubq.methods import Inputs, Layer, method_class
method = method_class("bitsandbytes")()
method.why_unsupported((32, 64))
method.sketch((32, 64), torch.bfloat16).stored_bits()
print("imported" if "bitsandbytes" in sys.modules else "not imported")
method.quantize(Layer("up_proj", torch.ones(32, 64), Inputs(0)))
"""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )


def test_a_plan_does_not_import_the_library(fresh: "subprocess.CompletedProcess[str]") -> None:
    assert fresh.stdout == "not imported\n"


def test_quantizing_says_nothing_on_the_screen(fresh: "subprocess.CompletedProcess[str]") -> None:
    assert fresh.stderr == ""
