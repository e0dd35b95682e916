"""A folder with an adapter inside is a model: whatever reads the base, and block by block."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_adaptation import ALPHA, RANK, link, lora, put_adapter
from quantized_folder import Choice, write
from torch import Tensor

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.machine.progress import SILENT
from hubq.sources.shards import Weights, weight_bytes
from hubq.sources.shards import write as save
from hubq.stages.convert.conversion import ConversionRequest
from hubq.stages.convert.convert import convert
from hubq.stages.evaluate.assess import bring
from hubq.stages.evaluate.inference.chat import Speaker
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.measure import content_of
from hubq.tensors import Grid

IDS = torch.tensor([[72, 101, 108, 108, 111, 256, 7]])
SHAPES = {
    "model.layers.0.self_attn.q_proj": (64, 64),
    "model.layers.1.mlp.down_proj": (64, 128),
}


@pytest.fixture
def adapted(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a dense model's files with an adapter."""
    return with_adapter(tiny_model("llama"), tmp_path / "adapted")


def with_adapter(model: Path, folder: Path) -> Path:
    link(model, folder)
    put_adapter(folder / "adapter", SHAPES)
    return folder


def logits(folder: Path, dtype: str = "float32", *, by_blocks: bool = False) -> Tensor:
    model = load(folder, device="cpu", dtype=dtype, by_blocks=by_blocks).model
    with torch.inference_mode():
        found: Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def merged(model: Path, folder: Path) -> Path:
    """Write a dense model in float32 whose weights have the adapter added."""
    link(model, folder)
    weights, matrices = Weights(model), lora(SHAPES)
    tensors = {name: weights.read(name).float() for name in weights.info}
    for name in SHAPES:
        a, b = (matrices[f"base_model.model.{name}.lora_{each}.weight"] for each in "AB")
        tensors[f"{name}.weight"] += ALPHA / RANK * b @ a
    (folder / "model.safetensors").unlink()
    save(folder / "model.safetensors", tensors)
    return folder


def test_an_adapter_is_what_it_adds_to_the_weights(
    adapted: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    expected = logits(merged(tiny_model("llama"), tmp_path / "merged"))

    assert torch.allclose(logits(adapted), expected, atol=1e-4)
    assert not torch.allclose(logits(tiny_model("llama")), expected, atol=1e-2)


@pytest.mark.parametrize("form", ["compressed-tensors", "gptq", "hubq"])
def test_an_adapter_is_added_whatever_reads_the_model(
    tiny_model: Callable[[str], Path], tmp_path: Path, form: str
) -> None:
    write(tiny_model("llama"), tmp_path / "model", Choice(format_named(form), Grid(4, 32)))
    folder = with_adapter(tmp_path / "model", tmp_path / "adapted")

    whole = logits(folder, "bfloat16")

    assert torch.equal(whole, logits(folder, "bfloat16", by_blocks=True))
    assert not torch.allclose(whole, logits(tmp_path / "model", "bfloat16"), atol=0.1)


def test_what_read_the_adapter_is_named(adapted: Path) -> None:
    loaded = load(adapted, device="cpu", dtype="bfloat16")

    assert loaded.loader == "transformers; the adapter by hubq"


def test_another_adapter_is_another_content(adapted: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    link(adapted, other)
    (other / "adapter" / "adapter_model.safetensors").unlink()
    (other / "adapter" / "adapter_config.json").unlink()
    (other / "adapter").rmdir()
    put_adapter(other / "adapter", SHAPES, seed=1)

    assert content_of(other) != content_of(adapted)


def test_the_bytes_of_an_adapter_count(adapted: Path, tiny_model: Callable[[str], Path]) -> None:
    own = (adapted / "adapter" / "adapter_model.safetensors").stat().st_size

    assert weight_bytes(adapted) == weight_bytes(tiny_model("llama")) + own


def test_a_model_with_an_adapter_answers(adapted: Path) -> None:
    said = "".join(Speaker.load(adapted).answer([{"role": "user", "content": "Hello"}], 2))

    assert isinstance(said, str)
    assert bring(str(adapted), Client(), SILENT)().folder == adapted


def test_an_adapter_without_its_base_is_refused_with_the_ways_out(adapted: Path) -> None:
    alone = adapted / "adapter"
    said = r"an adapter is loaded with its base\. Put its files into a folder `adapter` inside"

    with pytest.raises(UserError, match=said):
        Speaker.load(alone)
    with pytest.raises(UserError, match=said):
        bring(str(alone), Client(), SILENT)()


def test_an_adapter_among_a_models_files_is_refused(adapted: Path) -> None:
    (adapted / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))

    with pytest.raises(UserError, match=r"holds adapter_config\.json"):
        load(adapted, device="cpu", dtype="bfloat16")


def test_no_conversion_loses_an_adapter(adapted: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a model with an adapter, which no conversion carries"):
        convert(adapted, tmp_path / "out", ConversionRequest("hubq", source="a folder"))
