"""Rounded activations: what compressed-tensors files declare, plain transformers computes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_run import made_plan, made_report
from quantized_folder import Choice, write

from hubq.formats import Format, format_named
from hubq.stages.card.card import render
from hubq.tensors import PER_CHANNEL, Affine, Grid

COMPRESSED_TENSORS = format_named("compressed-tensors")
MODULE = "model.layers.0.mlp.up_proj"
BITS = (8, 6, 4)

# The simulation knows nothing of compressed-tensors: it rounds what reaches each linear of the
# dequantized model, a token at a time, and multiplies.
COMPARE = """
import json, sys, torch
from transformers import AutoModelForCausalLM

def rounded(x, bits):
    half = 2 ** (bits - 1)
    scale = x.abs().amax(-1, keepdim=True) / (half - 0.5)
    return (x / scale).round().clamp(-half, half - 1) * scale

ids = torch.arange(40).reshape(2, 20)
for quantized, dense, bits in json.loads(sys.argv[1]):
    loaded = AutoModelForCausalLM.from_pretrained(quantized)(ids).logits
    model = AutoModelForCausalLM.from_pretrained(dense)
    unrounded = model(ids).logits
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            module.register_forward_pre_hook(lambda m, x, bits=bits: (rounded(x[0], bits),))
    simulated = model(ids).logits
    facts = [torch.equal(loaded, simulated), torch.equal(loaded, unrounded)]
    print("RESULT", json.dumps([quantized, facts]))
"""


def affine(bits: int, *, symmetric: bool = True, shape: tuple[int, int] = (64, 96)) -> Affine:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(bits))
    tensor = Affine.fit(weight, Grid(bits, PER_CHANNEL, symmetric))
    return replace(tensor, activation_bits=bits)


@pytest.fixture(scope="module")
def compared(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[bool]]:
    """Load every case in one fresh process: importing transformers takes several seconds."""
    root, cases = tmp_path_factory.mktemp("activations"), []
    eight, six, four = (Grid(bits, PER_CHANNEL, symmetric=True) for bits in BITS)
    for name, grid, head in (
        ("8", eight, None),
        ("6", six, None),
        ("4", four, None),
        ("8 with a head", eight, eight),
    ):
        choice = Choice(COMPRESSED_TENSORS, grid, head, activation_bits=grid.bits)
        dense = write(tiny_model("llama"), root / name, choice)
        cases.append((str(root / name), str(dense), grid.bits))
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, json.dumps(cases)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if "RESULT" in line]
    return {Path(folder).name: facts for folder, facts in map(json.loads, lines)}


@pytest.mark.parametrize("case", ["8", "6", "4", "8 with a head"])
def test_plain_transformers_rounds_each_tokens_inputs(
    case: str, compared: dict[str, list[bool]]
) -> None:
    as_simulated, as_unrounded = compared[case]

    assert as_simulated
    assert not as_unrounded


@pytest.mark.parametrize("shape", [(64, 96), (5, 7), (1, 1), (31, 100)])
@pytest.mark.parametrize("bits", BITS)
def test_what_is_unpacked_is_what_was_packed(bits: int, shape: tuple[int, int]) -> None:
    tensor = affine(bits, shape=shape)
    config = json.loads(json.dumps(COMPRESSED_TENSORS.config({MODULE: tensor}, [])))

    back = COMPRESSED_TENSORS.unpack(MODULE, COMPRESSED_TENSORS.pack(MODULE, tensor), config)

    assert isinstance(back, Affine)
    assert torch.equal(back.codes, tensor.codes)
    assert torch.equal(back.dequantize(), tensor.dequantize())
    assert (back.bits, back.group_size, back.activation_bits) == (bits, shape[1], bits)


def test_eight_bits_lie_as_integers_for_the_engines_kernels() -> None:
    tensor = affine(8)

    packed = COMPRESSED_TENSORS.pack(MODULE, tensor)

    weight, scale = packed[f"{MODULE}.weight"], packed[f"{MODULE}.weight_scale"]
    assert (weight.dtype, scale.shape) == (torch.int8, (64, 1))
    assert torch.equal(weight.float() * scale, tensor.dequantize())


@pytest.mark.parametrize("bits", BITS)
def test_a_file_holds_just_the_stored_bits(bits: int) -> None:
    tensor = affine(bits)

    packed = COMPRESSED_TENSORS.pack(MODULE, tensor)

    size = sum(each.nbytes for name, each in packed.items() if not name.endswith("_shape"))
    assert 8 * size == tensor.stored_bits() * tensor.codes.numel()


@pytest.mark.parametrize(
    ("bits", "layout"), [(8, "int-quantized"), (6, "pack-quantized"), (4, "pack-quantized")]
)
def test_the_library_reads_our_config_without_a_change_of_meaning(bits: int, layout: str) -> None:
    from compressed_tensors.quantization import QuantizationConfig

    config = QuantizationConfig.model_validate(
        COMPRESSED_TENSORS.config({MODULE: affine(bits)}, [])
    )

    inputs = config.config_groups["group_0"].input_activations
    assert (inputs.num_bits, inputs.strategy, inputs.dynamic) == (bits, "token", True)
    assert config.format == config.config_groups["group_0"].format == layout


def test_a_head_keeps_its_inputs() -> None:
    head = replace(affine(8), activation_bits=None)

    config = COMPRESSED_TENSORS.config({MODULE: affine(8), "lm_head": head}, [])

    groups = {group["targets"][0]: group for group in config["config_groups"].values()}
    assert groups["lm_head"]["input_activations"] is None
    assert groups["lm_head"]["format"] == "pack-quantized"
    assert groups["Linear"]["format"] == "int-quantized"
    assert config["format"] == "mixed-precision"


@pytest.mark.parametrize("bits", BITS)
def test_no_file_asks_transformers_to_leave_activations_alone(bits: int) -> None:
    config = COMPRESSED_TENSORS.config({MODULE: affine(bits)}, [])

    assert "dequantize" not in config
    assert "run_compressed" not in config


def test_zeros_beside_rounded_activations_are_refused() -> None:
    mistake = COMPRESSED_TENSORS.why_unsupported(affine(8, symmetric=False))

    assert mistake is not None
    assert "use symmetric: true" in mistake


@pytest.mark.parametrize(
    ("form", "symmetric"), [(format_named("gptq"), True), (format_named("awq"), False)]
)
def test_formats_that_cannot_tell_of_activations_refuse_them(form: Format, symmetric: bool) -> None:
    mistake = form.why_unsupported(affine(4, symmetric=symmetric, shape=(64, 64)))

    assert mistake is not None
    assert "use format: compressed-tensors" in mistake


@pytest.mark.usefixtures("nothing_tried")
@pytest.mark.parametrize(("bits", "promised"), [(8, True), (6, False), (4, True)])
def test_a_card_promises_engines_where_they_have_kernels(bits: int, promised: bool) -> None:
    plan = made_plan(nominal_bits=bits)
    plan.recipe["method"] = {"name": "smoothquant", "bits": bits}

    text = render(made_report(plan=plan))

    assert ("vllm serve" in text) == promised
    assert f"the inputs of each linear rounded to {bits} bits" in text
