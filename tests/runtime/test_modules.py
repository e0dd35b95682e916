"""A packed layer computes with what was packed, whatever the representation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hubq_folder import write
from made_tensors import affine, every_kind
from tiny_models import save_tiny_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from hubq.formats import format_named
from hubq.runtime.modules import PackedEmbedding, PackedLinear
from hubq.tensors import QuantizedTensor

FORM = format_named("hubq")
SHAPE = (64, 64)
KINDS = list(every_kind(SHAPE))
IDS = torch.tensor([[3, 0, 63], [3, 17, 5]])


def parts(tensor: QuantizedTensor) -> tuple[Any, tuple[int, int], dict[str, Tensor]]:
    """Return a tensor's scheme, its shape and what the file holds of it."""
    config = FORM.config({"layer": tensor}, [])
    packed = {name.partition(".")[2]: each for name, each in FORM.pack("layer", tensor).items()}
    return config["schemes"][0], tensor.shape, packed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model in which each block has a representation of its own."""
    root = tmp_path_factory.mktemp("kinds")
    save_tiny_model("llama", root / "base", num_hidden_layers=len(KINDS))
    made = {f"model.layers.{number}.self_attn.q_proj": each for number, each in enumerate(KINDS)}
    write(root / "base", root / "packed", lambda module, weight: made.get(module))
    return root / "packed"


@pytest.mark.parametrize("packed", [False, True])
def test_every_representation_comes_back_from_a_file(packed: bool, folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    config.quantization_config["packed"] = packed

    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)

    layers = [block.self_attn.q_proj for block in model.model.layers]
    found = [each.weight_in(torch.float32) if packed else each.weight for each in layers]
    assert all(torch.equal(one, kind.dequantize()) for one, kind in zip(found, KINDS, strict=True))


@pytest.mark.parametrize("tensor", KINDS, ids=lambda each: type(each).__name__)
def test_a_linear_multiplies_with_the_dequantized_weight(tensor: QuantizedTensor) -> None:
    layer = PackedLinear(nn.Linear(64, 64, device="meta", bias=False), *parts(tensor))
    inputs = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))

    assert torch.equal(layer(inputs), nn.functional.linear(inputs, tensor.dequantize()))


@pytest.mark.parametrize("tensor", KINDS, ids=lambda each: type(each).__name__)
def test_an_embedding_looks_up_rows_of_the_dequantized_weight(tensor: QuantizedTensor) -> None:
    layer = PackedEmbedding(nn.Embedding(64, 64, device="meta"), *parts(tensor))

    assert torch.equal(layer(IDS), tensor.dequantize()[IDS])


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("columns", [64, 60])  # rows of 3 bits that begin with a word, or not
def test_ragged_groups_of_an_embedding_are_looked_up(columns: int, symmetric: bool) -> None:
    tensor = affine((64, columns), 3, 24, symmetric=symmetric)

    layer = PackedEmbedding(nn.Embedding(64, columns, device="meta"), *parts(tensor))

    assert torch.equal(layer(IDS), tensor.dequantize()[IDS])
