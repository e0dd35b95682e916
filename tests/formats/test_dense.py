"""A method's result, or any quantized weight, written out in 16 bits and marked as such."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hubq.client.client import Client
from hubq.formats import format_named
from hubq.formats.dense import MARK
from hubq.machine.engines import engines
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import Affine, Binary, Grid, Mixed, QuantizedTensor

NOWHERE = Client(endpoint="http://127.0.0.1:9")
DENSE = format_named("dense")


def affine(dtype: torch.dtype = torch.bfloat16) -> Affine:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    return Affine.fit(weight, Grid(4, 32, scale_dtype=dtype))


def mixed() -> Mixed:
    fine = affine()
    signs = torch.ones(1, 16, 64, dtype=torch.bool)
    binary = Binary(signs, (torch.ones(16, 2).bfloat16(),), None, group_size=32)
    return Mixed((fine, binary), torch.tensor([0, 1, 1, 0], dtype=torch.uint8), group_size=32)


@pytest.fixture
def made(tiny_model: Callable[[str], Path], tmp_path: Path) -> tuple[Plan, Checkpoint, Path]:
    """Quantize a tiny model by RTN into a dense copy; return plan, checkpoint and folder."""
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"folder": tiny_model("llama")},
            "method": {"name": "rtn", "bits": 4, "group_size": 32},
            "format": "dense",
            "publish": {"org": "me"},
        }
    )
    run = tmp_path / "run"
    run.mkdir()
    planned = plan(recipe, run, NOWHERE)
    return planned, quantize(planned, run, NOWHERE), run / "model"


def test_a_recipe_for_dense_writes_what_the_packed_model_computes_with(
    made: tuple[Plan, Checkpoint, Path], tiny_model: Callable[[str], Path]
) -> None:
    _, _, folder = made

    loaded = load(folder, device="cpu", dtype="bfloat16").model.state_dict()

    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama")).state_dict()
    for name, weight in base.items():
        if name.endswith("_proj.weight"):
            weight = Affine.fit(weight.float(), Grid(4, 32)).dequantize().bfloat16()
        assert torch.equal(loaded[name], weight)


def test_a_dense_copy_is_marked_and_not_called_quantized(
    made: tuple[Plan, Checkpoint, Path],
) -> None:
    _, _, folder = made

    config = json.loads((folder / "config.json").read_text())

    assert "quantization_config" not in config
    assert MARK in config


def test_the_card_of_a_dense_copy_says_what_it_is(made: tuple[Plan, Checkpoint, Path]) -> None:
    _, checkpoint, _ = made

    assert any("This is a dense copy" in fact for fact in checkpoint.facts)


def test_a_dense_copy_is_said_to_take_16_bits(made: tuple[Plan, Checkpoint, Path]) -> None:
    planned, checkpoint, _ = made

    assert planned.linear_bits == 16
    assert checkpoint.linear_bits == pytest.approx(16, rel=1e-2)  # of the bytes as written


def test_engines_load_a_dense_copy_whatever_the_method_rounded_to() -> None:
    assert engines("dense", 1.1) == ["vLLM", "SGLang"]


@pytest.mark.parametrize("tensor", [affine(), mixed()], ids=["affine", "mixed"])
def test_any_weight_is_rounded_once(tensor: QuantizedTensor) -> None:
    back = DENSE.unpack("m", DENSE.pack("m", tensor), {})

    assert torch.equal(back.dequantize(), tensor.dequantize().bfloat16().float())


def test_the_weights_have_the_dtype_of_the_scales() -> None:
    packed = DENSE.pack("m", affine(torch.float16))

    assert packed["m.weight"].dtype == torch.float16


def test_a_sketch_packs_to_the_shape_of_the_weight() -> None:
    packed = DENSE.pack("m", Affine.sketch((16, 64), Grid(4, 32)))

    assert packed["m.weight"].is_meta
    assert packed["m.weight"].shape == (16, 64)


def test_rounded_activations_are_refused() -> None:
    from dataclasses import replace

    mistake = DENSE.why_unsupported(replace(affine(), activation_bits=8))

    assert mistake is not None
    assert "use format: compressed-tensors" in mistake
