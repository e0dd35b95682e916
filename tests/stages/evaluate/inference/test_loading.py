"""A folder loads whole, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hubq_folder
import pytest
import torch
from damaged_folder import DAMAGES, Damage
from quantized_folder import Choice, write
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny_model

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.stages.evaluate.inference.loading import load
from hubq.tensors import Grid

IDS = torch.arange(40).view(2, 20)


def logits(folder: Path) -> Any:
    model = load(folder, device="cpu", dtype="bfloat16").model
    with torch.inference_mode():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("format_name", ["gptq", "awq"])
def test_a_packed_folder_reads_as_its_dequantized_weights(
    format_name: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    grid = Grid(bits=4, group_size=32, symmetric=format_name == "gptq")
    folder = tmp_path / "packed"
    twin = write(tiny_model("llama3.2"), folder, Choice(format_named(format_name), grid))

    assert torch.equal(logits(folder), logits(twin))


def test_the_loader_says_that_hubq_read_the_files_itself(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    grid = Grid(bits=4, group_size=32, symmetric=True)
    write(tiny_model("qwen2"), tmp_path / "packed", Choice(format_named("gptq"), grid))

    loaded = load(tmp_path / "packed", device="cpu", dtype="bfloat16")

    assert loaded.loader.startswith("hubq's own gptq reader (gptqmodel")


def test_compressed_tensors_are_read_by_transformers(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    choice = Choice(format_named("compressed-tensors"), Grid(bits=4, group_size=32))
    twin = write(tiny_model("llama"), tmp_path / "packed", choice)

    loaded = load(tmp_path / "packed", device="cpu", dtype="bfloat16")

    assert loaded.loader == "transformers"
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=IDS).logits, logits(twin))


def test_hubq_files_are_read_by_transformers_with_hubqs_quantizer(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    twin = hubq_folder.write(tiny_model("qwen2"), tmp_path / "packed", hubq_folder.round_all)

    loaded = load(tmp_path / "packed", device="cpu", dtype="bfloat16")

    assert loaded.loader == "transformers with hubq's quantizer"
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=IDS).logits, logits(twin))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_to_hubq_files_is_named(
    damage: Damage, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    hubq_folder.write(tiny_model("llama"), tmp_path / "packed")
    damage.inflict(tmp_path / "packed")

    with pytest.raises(UserError, match=f"(?s)cannot load .*{damage.message}"):
        load(tmp_path / "packed", device="cpu", dtype="bfloat16")


def test_a_file_that_was_cut_short_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(UserError, match="cannot load"):
        load(folder, device="cpu", dtype="bfloat16")


def test_a_packed_tensor_that_is_missing_is_named(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    choice = Choice(format_named("compressed-tensors"), Grid(bits=4, group_size=32))
    write(tiny_model("llama"), tmp_path / "packed", choice)
    lost = "model.layers.0.mlp.up_proj.weight_packed"
    rewrite(tmp_path / "packed", lambda tensors: tensors.pop(lost))

    with pytest.raises(
        UserError, match=r"cannot load(?s:.*)model\.layers\.0\.mlp\.up_proj\.weight"
    ):
        load(tmp_path / "packed", device="cpu", dtype="bfloat16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_model("llama", tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_missing_weight_is_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))

    with pytest.raises(UserError, match=r"missing keys: model\.layers\.1\.mlp\.up_proj\.weight"):
        load(folder, device="cpu", dtype="bfloat16")


def test_a_weight_that_the_model_has_no_place_for_is_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update(stray=torch.zeros(1)))

    with pytest.raises(UserError, match="unexpected keys: stray"):
        load(folder, device="cpu", dtype="bfloat16")


def test_a_weight_of_another_shape_is_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(3)}))

    with pytest.raises(UserError, match=r"model\.norm\.weight"):
        load(folder, device="cpu", dtype="bfloat16")


def test_a_quantization_that_transformers_only_warns_of_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    config["quantization_config"] = {"quant_method": "homemade"}
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(UserError, match="quantized by homemade, which transformers does not know"):
        load(folder, device="cpu", dtype="bfloat16")


def test_a_weight_that_is_no_number_is_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors["model.layers.0.mlp.up_proj.weight"].fill_(torch.nan))

    with pytest.raises(UserError, match=r"NaN or infinity .*model\.layers\.0\.mlp\.up_proj"):
        load(folder, device="cpu", dtype="bfloat16")


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load(tmp_path, device="cpu", dtype="bfloat16")
