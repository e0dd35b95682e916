"""Plans of models that see: what is kept and counted, what the language part alone is, and no."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.plan import Plan
from hubq.stages.plan.forecast import shape_of
from hubq.stages.plan.plan import plan
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEXT = "LlavaNextForConditionalGeneration"
QUIET: dict[str, Any] = {"perplexity": [], "fidelity": None, "efficiency": None}


def planned(folder: Path, run: Path, **changes: object) -> Plan:
    run.mkdir(exist_ok=True)
    values: dict[str, object] = {
        "name": "tiny",
        "model": {"folder": folder, "base_model": "acme/seer"},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "evaluate": QUIET,
        "publish": {"org": "me"},
    }
    return plan(Recipe.model_validate(values | changes), run, NOWHERE)


@pytest.fixture
def seer(tiny_vision_model: Callable[[str], Path]) -> Path:
    return tiny_vision_model(NEXT)


def test_all_of_it_is_counted_and_what_sees_is_kept(seer: Path, tmp_path: Path) -> None:
    found = planned(seer, tmp_path / "run")

    tensors = load_file(seer / "model.safetensors")
    assert found.vision is not None
    assert (found.vision.title, found.vision.architecture) == ("LLaVA-NeXT", NEXT)
    sizes = {each.name: (each.parameters, each.bytes) for each in found.vision.stays}
    assert sizes == {
        name: (count, 2 * count)
        for name in ("vision_tower", "multi_modal_projector", "image_newline")
        for count in [sum(each.numel() for key, each in tensors.items() if key.startswith(name))]
    }
    assert found.parameters == sum(each.numel() for each in tensors.values())
    assert found.base_bytes == sum(each.nbytes for each in tensors.values())
    assert (found.architecture, found.repo) == ("LlamaForCausalLM", "me/seer-RTN-4bit")
    assert shape_of(found).blocks == 2


def test_its_language_part_is_a_plan_of_a_plain_decoder_that_says_so(
    seer: Path, tmp_path: Path
) -> None:
    found = planned(seer, tmp_path / "run", publish={"org": "me", "part": "language"})

    whole = planned(seer, tmp_path / "whole")
    assert found.vision is not None
    assert whole.vision is not None
    assert found.vision == whole.vision.model_copy(update={"part": "language"})
    assert found.modules == whole.modules
    assert found.bytes == whole.bytes - whole.vision.bytes
    assert found.parameters == whole.parameters - whole.vision.parameters
    assert found.repo == "me/seer-language-RTN-4bit"


def test_a_run_of_all_of_it_is_not_taken_for_one_of_its_language_part(
    seer: Path, tmp_path: Path
) -> None:
    planned(seer, tmp_path / "run")

    with pytest.raises(UserError, match=r"vision.part: all there, language now"):
        planned(seer, tmp_path / "run", publish={"org": "me", "part": "language"})


@pytest.mark.parametrize("part", ["all", "language"])
def test_an_adapter_is_for_its_language_part_alone(seer: Path, tmp_path: Path, part: str) -> None:
    changes: dict[str, object] = {
        "adapt": {"name": "qlora", "rank": 8, "dataset": {"file": tmp_path / "pairs.jsonl"}},
        "publish": {"org": "me", "part": part},
    }
    pair = {"instruction": "Say", "output": "yes"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")

    if part == "language":
        assert planned(seer, tmp_path / "run", **changes).adaptation is not None
    else:
        with pytest.raises(UserError, match=r"set publish.part: language to adapt"):
            planned(seer, tmp_path / "run", **changes)


def without_a_layer(tensors: dict[str, Tensor]) -> None:
    for name in [each for each in tensors if "vision_tower.encoder.layers.1." in each]:
        del tensors[name]


def of_another_width(tensors: dict[str, Tensor]) -> None:
    tensors["multi_modal_projector.linear_1.weight"] = torch.zeros(64, 48, dtype=torch.bfloat16)


def with_more(tensors: dict[str, Tensor]) -> None:
    tensors["vision_tower.extra.weight"] = torch.zeros(4, dtype=torch.bfloat16)


def in_integers(tensors: dict[str, Tensor]) -> None:
    tensors["image_newline"] = torch.zeros(64, dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_a_layer, "missing: vision_tower.encoder.layers.1.self_attn.k_proj.weight"),
        (of_another_width, "of another shape: multi_modal_projector.linear_1.weight"),
        (with_more, "without a place in the architecture: vision_tower.extra.weight"),
        (in_integers, "image_newline hold I32"),
    ],
)
def test_tensors_of_what_sees_that_its_config_does_not_promise_are_refused(
    seer: Path, tmp_path: Path, change: Callable[[Mapping[str, Tensor]], None], said: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(seer, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    with pytest.raises(UserError, match=re.escape(said)):
        planned(folder, tmp_path / "run")


def test_old_numbers_of_positions_are_no_weights(seer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(seer, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    found = planned(folder, tmp_path / "run")

    assert found.vision is not None


@pytest.mark.parametrize("layers", [10**6, -1, "two"])
def test_layers_of_what_sees_beyond_its_files_are_refused(
    seer: Path, tmp_path: Path, layers: object
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(seer, folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = layers
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(UserError, match="num_hidden_layers"):
        planned(folder, tmp_path / "run")
