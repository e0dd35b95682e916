"""Embeddings of 8 and 4 bits in a hubq file, tied to the head or not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hubq.client.client import Client
from hubq.formats.hubq import FORMAT
from hubq.records.checkpoint import Checkpoint
from hubq.sources.shards import Weights
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe


def quantized(base: Path, run: Path, embeddings: int, **method: object) -> Checkpoint:
    """Quantize a folder in the hubq format."""
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"folder": str(base)},
            "method": {"name": "rtn", "bits": 3, "group_size": 32, **method},
            "format": "hubq",
            "embeddings": embeddings,
            "publish": {"org": "acme"},
        }
    )
    run.mkdir()
    client = Client()
    return quantize(plan(recipe, run, client), run, client)


@pytest.mark.parametrize(
    ("name", "packed"),
    [("llama3.2", ["model.embed_tokens"]), ("llama", ["lm_head", "model.embed_tokens"])],
)
@pytest.mark.parametrize("bits", [4, 8])
def test_embeddings_are_packed_and_read_back(
    name: str, packed: list[str], bits: int, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    base = tiny_model(name)

    quantized(base, tmp_path / "run", bits)

    folder = tmp_path / "run" / "model"
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    tensors = load_file(folder / "model.safetensors")
    outside = [module for module in config["modules"] if ".layers." not in module]
    assert sorted(outside) == packed
    for module in packed:
        weight = FORMAT.unpack(module, tensors, config).dequantize()
        original = Weights(base).read(f"{module}.weight").float()
        assert weight.shape == original.shape
        assert (weight - original).abs().max() < original.abs().max() / (1 << bits - 1)


def test_a_checkpoint_counts_its_bits_from_the_file(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = quantized(tiny_model("llama"), tmp_path / "run", 16)

    tensors = load_file(tmp_path / "run" / "model" / "model.safetensors")
    inside = {name: each for name, each in tensors.items() if "_proj." in name}
    weights = sum(torch.Size(shape).numel() for shape in linear_shapes(tmp_path / "run"))
    size = 8 * sum(each.nbytes for each in inside.values())
    assert checkpoint.linear_bits == pytest.approx(size / weights)
    assert checkpoint.needed_bits <= checkpoint.linear_bits < 1.02 * checkpoint.needed_bits


def linear_shapes(run: Path) -> list[tuple[int, int]]:
    config = json.loads((run / "model" / "config.json").read_text())["quantization_config"]
    return [entry["shape"] for entry in config["modules"].values()]
