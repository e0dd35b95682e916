"""From a recipe to logits: what `quantize` writes as hubq is what `evaluate` computes with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hubq_folder import IDS, write
from safetensors.torch import load_file
from tiny_models import save_tiny_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from hubq.client.client import Client
from hubq.formats import format_named
from hubq.methods import Inputs, Layer, Method, method_class, methods
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import QuantizedTensor

NOWHERE = Client(endpoint="http://127.0.0.1:9")
FAMILIES = ("llama", "llama3.2", "mistral", "qwen2", "qwen3")
FORM = format_named("hubq")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text("".join(f"The {each}th llama ate {7 * each} leaves.\n" for each in range(90)))
    return path


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=IDS).logits
    return found


def dequantized(folder: Path) -> dict[str, Tensor]:
    """Return a folder's weights as the format's own reader finds them."""
    config = json.loads((folder / "config.json").read_bytes())["quantization_config"]
    tensors = load_file(folder / "model.safetensors")
    packed = tuple(f"{module}.weight" for module in config["modules"])
    kept = {name: each for name, each in tensors.items() if not name.startswith(packed)}
    return kept | {
        f"{module}.weight": FORM.unpack(module, tensors, config).dequantize().bfloat16()
        for module in config["modules"]
    }


@pytest.fixture
def recipe(text: Path) -> Callable[..., Recipe]:
    """Return a function from a model's folder and changes to a recipe for the format."""

    def make(folder: Path, name: str, **changes: object) -> Recipe:
        values: dict[str, object] = {
            "name": "tiny",
            "model": {"folder": folder},
            "method": {"name": name, "bits": 3, "group_size": 32},
            "format": "hubq",
            "calibration": {"dataset": {"file": text}, "samples": 4, "length": 64},
            "publish": {"org": "me"},
        }
        return Recipe.model_validate(values | changes)

    return make


# Takes over a second: it plans and walks a whole model.
@pytest.mark.parametrize(
    ("family", "method", "embeddings"),
    [*((family, "gptq", 4) for family in FAMILIES), ("qwen2", "rtn", 16)],
)
def test_evaluate_computes_with_what_quantize_wrote(
    family: str, method: str, embeddings: int, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    save_tiny_model(family, base)
    wanted = recipe(base, method, embeddings=embeddings)
    run = tmp_path / "run"
    quantize(plan(wanted, run, NOWHERE), run, NOWHERE)

    found = load(run / "model", device="cpu", dtype="bfloat16")

    twin = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    twin.load_state_dict(dequantized(run / "model"), strict=False)
    assert found.loader == "transformers with hubq's quantizer"
    assert torch.equal(logits(found.model), logits(twin))


def small(name: str) -> Method:
    """Return a method with groups that fit tiny layers."""
    kind = method_class(name)
    return kind.model_validate({"group_size": 32} if "group_size" in kind.model_fields else {})


def held(name: str) -> bool:
    """Tell whether the format holds what a method makes."""
    return FORM.why_unsupported(small(name).sketch((64, 64), torch.bfloat16)) is None


# May take over a second: where a method's loops were not compiled before.
@pytest.mark.parametrize("name", [name for name in methods() if held(name)])
def test_what_any_method_makes_is_read_as_it_is(
    name: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    twin = write(tiny_model("llama"), tmp_path / "packed", in_one_block(small(name)))

    dense, packed = (logits(read(tmp_path / "packed", packed)) for packed in (False, True))

    assert torch.equal(dense, logits(read(twin)))
    assert torch.equal(dense, packed)


def read(folder: Path, packed: bool = False) -> Any:
    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    if packed:
        config["quantization_config"]["packed"] = True
        path.write_text(json.dumps(config))
    return load(folder, device="cpu", dtype="bfloat16").model


def in_one_block(method: Method) -> Callable[[str, Tensor], QuantizedTensor | None]:
    """Return what quantizes the first block's linears, on inputs of random tokens."""
    random = torch.Generator().manual_seed(0)

    def chosen(module: str, weight: Tensor) -> QuantizedTensor | None:
        if not (module.startswith("model.layers.0.") and module.endswith("_proj")):
            return None
        tokens = torch.randn(300, weight.shape[1], generator=random)
        magnitude = tokens.abs()
        inputs = Inputs(300, tokens.T @ tokens, magnitude.mean(0), magnitude.amax(0), tokens[::4])
        return method.quantize(Layer(module, weight, inputs))

    return chosen
