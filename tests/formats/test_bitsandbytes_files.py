"""bitsandbytes files: the very ones that the library saves, and what plain transformers loads."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.methods import Inputs, Layer, method_class
from hubq.methods.bitsandbytes import BitsAndBytes
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import Affine, Codebook, Grid

BITSANDBYTES = format_named("bitsandbytes")
NOWHERE = Client(endpoint="http://127.0.0.1:9")
MODULE = "model.layers.0.mlp.up_proj"
METHODS: dict[str, dict[str, Any]] = {
    "nf4": {"data_type": "nf4"},
    "nf4 with plain scales": {"data_type": "nf4", "double_quantization": False},
    "fp4": {"data_type": "fp4"},
    "fp4 with plain scales": {"data_type": "fp4", "double_quantization": False},
    "int8": {"data_type": "int8"},
}
each_method = pytest.mark.parametrize("name", METHODS)

# The library's own way, saved before any forward pass; then both folders run.
SAVE_AND_COMPARE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

ids = torch.arange(40).reshape(2, 20)
def run(model):
    with torch.inference_mode():
        return model.eval()(ids).logits

for folder, base, theirs, method in json.loads(sys.argv[1]):
    if method["data_type"] == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=method["data_type"],
            bnb_4bit_use_double_quant=method.get("double_quantization", True),
            bnb_4bit_compute_dtype="bfloat16",
        )
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=config)
    model.save_pretrained(theirs)
    ours, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    gaps = sum(len(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    logits = run(ours)
    facts = [
        torch.equal(logits, run(model)),
        torch.equal(logits, run(AutoModelForCausalLM.from_pretrained(theirs))),
        float((logits - run(AutoModelForCausalLM.from_pretrained(base))).norm() / logits.norm()),
        gaps,
    ]
    print("RESULT", json.dumps([folder, facts]))
"""


def made(name: str, weight: torch.Tensor) -> Codebook:
    layer = Layer(MODULE, weight, Inputs(0))
    return BitsAndBytes.model_validate(METHODS[name]).quantize(layer)


@pytest.fixture
def weight() -> torch.Tensor:
    """Return a matrix whose scales fill no whole number of blocks of 256."""
    random = torch.randn(96, 192, generator=torch.Generator().manual_seed(0)) / 10
    return random.bfloat16().float()


@pytest.fixture(scope="module")
def folders(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path, list[Any]]]:
    """Quantize a model by hubq and by the library; one process loads all: its imports take long."""
    root, cases = tmp_path_factory.mktemp("bitsandbytes"), []
    base = tiny_model("llama3.1")
    for name, method in METHODS.items():
        values: dict[str, Any] = {
            "model": {"folder": base},
            "method": {"name": "bitsandbytes", **method},
        }
        values |= {"name": "tiny", "format": "bitsandbytes", "publish": {"org": "me"}}
        run = root / name
        run.mkdir()
        quantize(plan(Recipe.model_validate(values), run, NOWHERE), run, NOWHERE)
        cases.append((str(run / "model"), str(base), str(run / "theirs"), method))
    done = subprocess.run(
        [sys.executable, "-c", SAVE_AND_COMPARE, json.dumps(cases)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if "RESULT" in line]
    facts = dict(map(json.loads, lines))
    return {
        Path(ours).parent.name: (Path(ours), Path(theirs), facts[ours])
        for ours, _, theirs, _ in cases
    }


Folders = dict[str, tuple[Path, Path, list[Any]]]


@each_method
def test_the_files_hold_the_tensors_that_the_library_saves(name: str, folders: Folders) -> None:
    ours, theirs, _ = folders[name]

    written, saved = (load_file(each / "model.safetensors") for each in (ours, theirs))

    assert written.keys() == saved.keys()
    for tensor, value in saved.items():
        assert (written[tensor].dtype, written[tensor].shape) == (value.dtype, value.shape), tensor
        assert torch.equal(written[tensor], value), tensor


@each_method
def test_the_config_is_what_the_library_writes(name: str, folders: Folders) -> None:
    ours, theirs, _ = folders[name]

    written, saved = (json.loads((each / "config.json").read_text()) for each in (ours, theirs))

    assert written["quantization_config"] == saved["quantization_config"]


@each_method
def test_plain_transformers_computes_as_with_the_librarys_own_model(
    name: str, folders: Folders
) -> None:
    as_live, as_reloaded, difference, gaps = folders[name][2]

    assert as_live
    assert as_reloaded
    assert gaps == 0
    assert 0 < difference < (0.05 if name == "int8" else 0.5)


@each_method
@pytest.mark.parametrize("shape", [(32, 64), (64, 128), (96, 192)])
def test_what_is_unpacked_is_what_was_packed(
    name: str, shape: tuple[int, int], weight: torch.Tensor
) -> None:
    tensor = made(name, weight[: shape[0], : shape[1]])
    config = json.loads(json.dumps(BITSANDBYTES.config({MODULE: tensor}, [])))

    back = BITSANDBYTES.unpack(MODULE, BITSANDBYTES.pack(MODULE, tensor), config)

    assert torch.equal(back.dequantize(), tensor.dequantize())
    assert back.stored_bits() == tensor.stored_bits()
    assert BITSANDBYTES.why_unsupported(back) is None


@each_method
def test_a_sketch_packs_to_the_tensors_of_the_weight(name: str, weight: torch.Tensor) -> None:
    method = BitsAndBytes.model_validate(METHODS[name])

    estimated = BITSANDBYTES.pack(MODULE, method.sketch((96, 192), torch.bfloat16))

    written = BITSANDBYTES.pack(MODULE, made(name, weight))
    assert estimated.keys() == written.keys()
    for each, value in written.items():
        assert estimated[each].dtype == value.dtype
        # The text names the mean of the scales in some decimals more or fewer.
        assert estimated[each].nbytes == pytest.approx(value.nbytes, abs=4 * ("state" in each))


@each_method
def test_a_file_holds_the_stored_bits_and_a_text(name: str, weight: torch.Tensor) -> None:
    tensor = made(name, weight)

    packed = BITSANDBYTES.pack(MODULE, tensor)

    beside = ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4", "weight_format")
    size = sum(each.nbytes for key, each in packed.items() if not key.endswith(beside))
    # The mean of the scales, 32 bits as hubq counts it, is in the text.
    assert 0 <= tensor.stored_bits() * tensor.codes.numel() - 8 * size <= 64


def test_linears_that_stay_are_named_with_the_head(weight: torch.Tensor) -> None:
    tensor = made("nf4", weight)

    config = BITSANDBYTES.config({MODULE: tensor}, ["model.layers.1.mlp.up_proj", "lm_head"])

    assert config["llm_int8_skip_modules"] == ["model.layers.1.mlp.up_proj", "lm_head"]


def test_two_data_types_in_one_model_are_refused(weight: torch.Tensor) -> None:
    mistake = BITSANDBYTES.why_unsupported_together(
        {"a": made("nf4", weight), "b": made("fp4", weight)}
    )

    assert mistake == "a bitsandbytes model has one data type, not fp4 and nf4"


def test_what_another_method_makes_is_refused(weight: torch.Tensor) -> None:
    other = Codebook(
        torch.zeros(32, 64, dtype=torch.uint8), torch.linspace(-1, 1, 16), torch.ones(32, 1), 4, 64
    )

    mistakes = [BITSANDBYTES.why_unsupported(each) for each in (Affine.fit(weight, Grid(8)), other)]

    assert all(each is not None and "use method: {name: bitsandbytes}" in each for each in mistakes)


@each_method
def test_affine_formats_refuse_what_the_library_makes(name: str, weight: torch.Tensor) -> None:
    tensor = made(name, weight)

    mistakes = [
        format_named(each).why_unsupported(tensor) for each in ("compressed-tensors", "gptq", "awq")
    ]

    assert None not in mistakes


def test_the_hubq_format_refuses_a_table_that_goes_without_saying() -> None:
    sketch = (
        method_class("bitsandbytes")
        .model_validate({"data_type": "int8"})
        .sketch((64, 128), torch.bfloat16)
    )

    mistake = format_named("hubq").why_unsupported(sketch)

    assert mistake is not None
    assert "use format: bitsandbytes" in mistake


@pytest.mark.parametrize(
    ("name", "part", "complaint"),
    [
        ("nf4", "weight.absmax", "has no tensor weight.absmax"),
        ("nf4", "weight.nested_absmax", "has no tensor weight.nested_absmax"),
        ("nf4", "weight.quant_state.bitsandbytes__nf4", "has no tensor weight.quant_state"),
        ("int8", "SCB", "has no tensor SCB"),
    ],
)
def test_a_file_that_lacks_a_tensor_is_refused(
    name: str, part: str, complaint: str, weight: torch.Tensor
) -> None:
    tensor = made(name, weight)
    packed = BITSANDBYTES.pack(MODULE, tensor)
    del packed[f"{MODULE}.{part}"]

    with pytest.raises(UserError, match=complaint):
        BITSANDBYTES.unpack(MODULE, packed, BITSANDBYTES.config({MODULE: tensor}, []))


def test_a_file_whose_parts_do_not_fit_together_is_refused(weight: torch.Tensor) -> None:
    tensor = made("nf4", weight)
    packed = BITSANDBYTES.pack(MODULE, tensor)
    packed[f"{MODULE}.weight"] = packed[f"{MODULE}.weight"][:-1]

    with pytest.raises(UserError, match="has 9215 bytes"):
        BITSANDBYTES.unpack(MODULE, packed, BITSANDBYTES.config({MODULE: tensor}, []))
