"""A model that sees, looked at as a plain decoder: its names, its config, and what can't be."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from faulty_hub import FaultyHub
from safetensors.torch import load_file, save_file
from tiny_vision import TINY
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.find import fetch, find
from hubq.sources.language_part import opened
from hubq.sources.source import Source

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEXT = "LlavaNextForConditionalGeneration"
QWEN = "Qwen2VLForConditionalGeneration"
Change = Callable[[dict[str, Any]], None]


def looked_up(folder: Path, **part: Any) -> Source:
    return find(ModelSection(folder=folder), NOWHERE, **part)


@pytest.fixture
def copied(tiny_vision_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function from an architecture to a copy: its config changed, its names renamed."""

    def copy(
        architecture: str,
        change: Change = lambda config: None,
        names: Mapping[str, str] | None = None,
    ) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(tiny_vision_model(architecture), folder)
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
        tensors = load_file(folder / "model.safetensors")
        for pattern, new in (names or {}).items():
            tensors = {re.sub(pattern, new, name): each for name, each in tensors.items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder

    return copy


@pytest.mark.parametrize("architecture", TINY)
def test_its_language_part_alone_computes_as_the_whole_does_on_text(
    tiny_vision_model: Callable[[str], Path], architecture: str
) -> None:
    folder = tiny_vision_model(architecture)

    alone = fetch(looked_up(folder, part="language"), NOWHERE)

    text = torch.arange(24)[None]
    language = AutoModelForCausalLM.from_pretrained(alone, dtype=torch.float32)
    whole = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(language(text).logits, whole(input_ids=text).logits)
    assert not [path for path in alone.iterdir() if "processor" in path.name]
    assert (alone / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        (NEXT, {r"^language_model\.model\.": "model.language_model."}),
        (NEXT, {r"^(vision_tower|multi_modal|image_new)": r"model.\1"}),
        (NEXT, {r"^vision_tower\.": "vision_tower.vision_model."}),
        (QWEN, {r"^model\.": "model.language_model.", r"^visual\.": "model.visual."}),
    ],
)
def test_the_names_of_older_and_of_newer_tools_are_the_same_model(
    copied: Callable[..., Path],
    tiny_vision_model: Callable[[str], Path],
    architecture: str,
    names: Mapping[str, str],
) -> None:
    source = looked_up(copied(architecture, names=names))

    usual = looked_up(tiny_vision_model(architecture))
    assert source.tensors.keys() == usual.tensors.keys()
    assert source.config == usual.config
    assert source.whole is not None
    assert usual.whole is not None
    assert len(source.whole.stays) == len(usual.whole.stays)
    stored = load_file(fetch(source, NOWHERE) / "model.safetensors")
    assert {source.whole.in_files(name) for name in source.tensors} < stored.keys()


def test_a_config_of_before_with_its_text_settings_on_top_is_read_too(
    copied: Callable[..., Path], tiny_vision_model: Callable[[str], Path]
) -> None:
    def flatten(config: dict[str, Any]) -> None:
        text = config.pop("text_config")
        rope = text.pop("rope_parameters")
        config |= {key: each for key, each in text.items() if key != "model_type"}
        config |= {
            "rope_theta": rope["rope_theta"],
            "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        }

    source = looked_up(copied(QWEN, flatten))

    usual = looked_up(tiny_vision_model(QWEN))
    assert source.config == {k: v for k, v in usual.config.items() if k != "head_dim"}


def test_settings_that_a_config_leaves_out_are_those_of_its_family(
    copied: Callable[..., Path],
) -> None:
    def leave_out(config: dict[str, Any]) -> None:
        for key in ("rms_norm_eps", "rope_parameters", "max_position_embeddings"):
            config["text_config"].pop(key)

    source = looked_up(copied(NEXT, leave_out))

    assert source.config["max_position_embeddings"] == 2048
    assert source.config["rope_parameters"]["rope_type"] == "default"


def other_text(config: dict[str, Any]) -> None:
    config["text_config"]["model_type"] = "phi3"


def text_of_words(config: dict[str, Any]) -> None:
    config["text_config"] = "llama"


def eyes_of_words(config: dict[str, Any]) -> None:
    config["vision_config"] = ["clip"]


def layers_without_end(config: dict[str, Any]) -> None:
    config["text_config"]["num_hidden_layers"] = 10**9


def quantized(config: dict[str, Any]) -> None:
    config["text_config"]["quantization_config"] = {"quant_method": "awq"}


def foreign_kernel(config: dict[str, Any]) -> None:
    config["vision_config"]["_attn_implementation"] = "someone/kernel"


def another_model(config: dict[str, Any]) -> None:
    config["model_type"] = "nobody_knows"


def pictures_across(config: dict[str, Any]) -> None:
    config["architectures"] = ["MllamaForConditionalGeneration"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_text, "text part of model_type phi3, which hubq does not know; it knows Llama, "),
        (text_of_words, "text_config that is no object"),
        (eyes_of_words, "vision_config that is no object"),
        (layers_without_end, "no model has more than 10,000"),
        (quantized, "already quantized"),
        (foreign_kernel, "attn_implementation: someone/kernel"),
        (another_model, "transformers can't make a nobody_knows model"),
        (pictures_across, "blocks of cross-attention"),
    ],
)
def test_what_no_model_has_is_refused_in_words(
    copied: Callable[..., Path], change: Change, said: str
) -> None:
    folder = copied(NEXT, change)

    with pytest.raises(UserError, match=re.escape(said)):
        looked_up(folder)


def test_files_without_a_language_part_are_refused(copied: Callable[..., Path]) -> None:
    folder = copied(NEXT, names={"language_model": "decoder"})

    with pytest.raises(UserError, match="hold no blocks of a LLaVA-NeXT model's language part"):
        looked_up(folder)


def test_a_model_of_text_alone_has_no_language_part(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match=r"publish.part: language is for models that see"):
        looked_up(tiny_model("llama"), part="language")


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_is_the_embeddings_only_where_the_files_have_none(
    copied: Callable[..., Path], tied: bool
) -> None:
    def tie(config: dict[str, Any]) -> None:
        config["tie_word_embeddings"] = True

    folder = copied(NEXT, tie)
    if tied:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save_file({k: v for k, v in tensors.items() if "lm_head" not in k}, path, {"format": "pt"})

    part = opened(folder)

    assert part.config["tie_word_embeddings"] is tied
    assert ("lm_head.weight" in part.tensors) is not tied


def test_it_is_brought_from_the_hub_with_what_its_processor_reads(
    tiny_vision_model: Callable[[str], Path], hub: FaultyHub, client: Client
) -> None:
    folder = tiny_vision_model(NEXT)
    client.api().create_repo("acme/seer")
    client.api().upload_folder(repo_id="acme/seer", folder_path=folder)

    source = find(ModelSection(hub="acme/seer"), client)

    usual = looked_up(folder)
    assert source.config == usual.config
    assert source.published.keys() == usual.published.keys()
    brought = fetch(source, client)
    for path in folder.iterdir():
        assert (brought / path.name).read_bytes() == path.read_bytes()
