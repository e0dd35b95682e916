"""Folders as other tools leave them: read as transformers reads them, or as it would."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from odd_folders import configure, logits, pickle_weights, renaming, rewrite
from safetensors.torch import load_file, save_file

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.errors import UserError
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.find import fetch, find
from hubq.sources.shards import index
from hubq.sources.source import Source
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9", retries=RetryPolicy(tries=1))


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """Give a copy of a tiny model that a test may change."""
    return shutil.copytree(tiny_model("llama"), tmp_path / "model")


@pytest.fixture
def tied(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """Give one whose head is its embeddings."""
    return shutil.copytree(tiny_model("llama3.2"), tmp_path / "model")


def found(folder: Path) -> Source:
    return find(ModelSection(folder=folder), NOWHERE)


def fetched(folder: Path) -> Path:
    return fetch(found(folder), NOWHERE)


WRAPPED: dict[str, Callable[[str], str]] = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled block by block": lambda name: name.replace("layers.1.", "layers.1._orig_mod."),
    "distributed": lambda name: f"module.{name}",
    "distributed and compiled": lambda name: f"module._orig_mod.{name}",
    "the body alone": lambda name: name.removeprefix("model."),
}


# Each loads a model twice: some tenths of a second.
@pytest.mark.parametrize("how", WRAPPED)
def test_names_of_other_tools_are_read_as_the_models_own(
    how: str, folder: Path, tiny_model: Callable[[str], Path]
) -> None:
    plain = index(folder)
    rewrite(folder, renaming(WRAPPED[how]))

    source = found(folder)

    assert source.tensors.keys() == plain.keys()
    assert "are read as" in source.remarks[0]
    assert torch.equal(logits(fetch(source, NOWHERE)), logits(tiny_model("llama")))


def test_a_tied_pair_saved_by_its_head_alone_is_read(
    tied: Path, tiny_model: Callable[[str], Path]
) -> None:
    rewrite(tied, renaming(lambda name: name.replace("model.embed_tokens", "lm_head")))

    place = fetched(tied)

    assert "model.embed_tokens.weight" in index(place)
    assert torch.equal(logits(place), logits(tied))
    assert torch.equal(logits(place), logits(tiny_model("llama3.2")))


def test_a_tied_body_saved_alone_is_read_as_the_model_for_causal_language(
    tied: Path, tiny_model: Callable[[str], Path]
) -> None:
    rewrite(tied, renaming(lambda name: name.removeprefix("model.")))
    configure(tied, architectures=["LlamaModel"])

    source = found(tied)

    assert source.config["architectures"] == ["LlamaForCausalLM"]
    place = fetch(source, NOWHERE)
    assert json.loads((place / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert torch.equal(logits(place), logits(tiny_model("llama3.2")))


def test_a_value_head_is_left_out_and_named(folder: Path) -> None:
    rewrite(folder, lambda state: {**state, "v_head.summary.weight": torch.ones(1, 64)})

    source = found(folder)

    assert "v_head.summary.weight are a head for training" in source.remarks[0]
    assert "v_head.summary.weight" not in index(fetch(source, NOWHERE))


def test_positions_that_old_writers_stored_need_no_copy(folder: Path) -> None:
    stored = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    rewrite(folder, lambda state: {**state, **stored})

    assert fetched(folder) == folder
    assert not found(folder).tensors.keys() & stored.keys()


def test_an_adapter_beside_the_model_is_left_alone_and_can_change_nothing(folder: Path) -> None:
    expected = logits(folder)  # with peft, transformers reads what comes now
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/other"}')
    save_file({"lora": torch.ones(1)}, folder / "adapter_model.safetensors")

    source = found(folder)

    assert source.remarks == (
        "weight files that are not the model's were ignored: adapter_model.safetensors",
    )
    place = fetch(source, NOWHERE)
    assert not list(place.glob("adapter*"))
    assert torch.equal(logits(place), expected)


def test_the_same_files_are_read_as_transformers_reads_among_several(
    folder: Path, tiny_model: Callable[[str], Path]
) -> None:
    for other in ("consolidated.safetensors", "old-00001-of-00001.safetensors"):
        shutil.copy(tiny_model("mistral") / "model.safetensors", folder / other)
    listed = {"weight_map": {"model.norm.weight": "old-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listed))

    source = found(folder)

    assert source.tensors == index(tiny_model("llama"))
    assert "consolidated.safetensors, model.safetensors.index.json, old-00001" in source.remarks[0]
    assert fetch(source, NOWHERE) == folder
    assert torch.equal(logits(folder), logits(tiny_model("llama")))


def test_one_file_of_another_name_is_copied_under_the_name_that_transformers_knows(
    folder: Path, tiny_model: Callable[[str], Path]
) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")

    assert torch.equal(logits(fetched(folder)), logits(tiny_model("llama")))


def test_two_tensors_that_are_one_by_their_names_are_refused(folder: Path) -> None:
    rewrite(folder, lambda state: {**state, "_orig_mod.model.norm.weight": torch.ones(64)})

    with pytest.raises(UserError, match=r"which are both model\.norm\.weight"):
        found(folder)


def test_a_head_that_is_not_its_tied_embeddings_is_refused_with_a_way_out_that_works(
    tied: Path,
) -> None:
    rewrite(tied, lambda state: {**state, "lm_head.weight": torch.ones(260, 64).bfloat16()})
    read = logits(tied)

    with pytest.raises(UserError, match="Set tie_word_embeddings: false there to keep both"):
        found(tied)

    configure(tied, tie_word_embeddings=False)
    assert "lm_head.weight" in found(tied).tensors
    assert torch.equal(logits(fetched(tied)), read)


def test_a_head_that_repeats_its_tied_embeddings_is_no_mistake(tied: Path) -> None:
    rewrite(
        tied, lambda state: {**state, "lm_head.weight": state["model.embed_tokens.weight"].clone()}
    )

    assert fetched(tied) == tied


def recipe_for(folder: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"folder": folder},
            "method": {"name": "rtn", "bits": 4, "group_size": 32},
            "publish": {"org": "me"},
        }
    )


def weights_of(folder: Path, run: Path) -> bytes:
    """Quantize a model and return the bytes of the result."""
    run.mkdir()
    quantize(plan(recipe_for(folder), run, NOWHERE), run, NOWHERE)
    return (run / "model" / "model.safetensors").read_bytes()


def test_the_names_in_the_file_make_no_difference_to_the_result(
    folder: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    rewrite(folder, renaming(WRAPPED["compiled"]))

    result = weights_of(folder, tmp_path / "one")

    assert result == weights_of(tiny_model("llama"), tmp_path / "other")


# Reading a pickle starts a process that imports torch: about 2 seconds each.


@pytest.mark.parametrize("shards", [1, 3])
def test_pickled_weights_are_converted_to_what_transformers_reads(
    shards: int, folder: Path
) -> None:
    pickle_weights(folder, shards=shards)

    source = found(folder)

    assert source.remarks[0].startswith("pickled weights: read without running their code")
    assert torch.equal(logits(fetch(source, NOWHERE)), logits(folder, use_safetensors=False))


def test_weights_pickled_by_an_old_torch_are_read(
    folder: Path, tiny_model: Callable[[str], Path]
) -> None:
    pickle_weights(folder, zipped=False)

    assert (
        load_file(fetched(folder) / "model.safetensors").keys() == index(tiny_model("llama")).keys()
    )


def test_pickled_weights_are_converted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickle_weights(folder)
    first = fetched(folder)
    monkeypatch.setattr("hubq.sources.normalized_folder._convert", None)  # calling it would fail

    assert fetched(folder) == first
    assert (first / "tokenizer.json").is_file()


class Trap:
    """An object whose pickle runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    pickle_weights(folder)
    sprung = tmp_path / "sprung"
    torch.save({"a": Trap(f"touch {sprung}")}, folder / "pytorch_model.bin")

    with pytest.raises(UserError, match=r"it asks for posix\.system"):
        found(folder)

    assert not sprung.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"step": 3}, "'step' is not a tensor"),
        ([torch.ones(2)], "it holds no tensors by name"),
        ({"a": torch.zeros(1).expand(1 << 28)}, "more numbers than its bytes can"),
        ({"a": torch.eye(2).to_sparse()}, "of a kind that safetensors can't store"),
    ],
)
def test_a_pickle_of_anything_but_weights_is_refused(
    content: object, complaint: str, folder: Path
) -> None:
    pickle_weights(folder)
    torch.save(content, folder / "pytorch_model.bin")

    with pytest.raises(UserError, match=complaint):
        found(folder)
