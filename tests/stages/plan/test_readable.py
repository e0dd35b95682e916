"""What plan knows of tokenizer, template and positions before anything is computed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import try_to_load_from_cache
from tiny_models import tiny_tokenizer

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.stages.plan.plan import plan
from hubq.stages.plan.readable import positions_of
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
ASKED = {"tasks": [{"name": "hubq_piqa", "chat_template": True}], "efficiency": None}


def planned(model: object, run: Path, client: Client = NOWHERE, **changes: object) -> None:
    values: dict[str, object] = {
        "name": "tiny",
        "model": model,
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "evaluate": ASKED,
        "publish": {"org": "me"},
    }
    plan(Recipe.model_validate(values | changes), run, client)


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a copy of a model, to be changed."""
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


def drop(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def test_a_model_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    drop(folder, "tokenizer.json", "tokenizer_config.json")

    with pytest.raises(UserError, match="has no tokenizer that transformers can read"):
        planned({"folder": folder}, tmp_path / "run")


def test_a_recipe_that_reads_no_text_needs_no_tokenizer(folder: Path, tmp_path: Path) -> None:
    drop(folder, "tokenizer.json", "tokenizer_config.json")

    planned({"folder": folder}, tmp_path / "run", evaluate={})


def test_conversations_for_a_model_without_a_template_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    drop(folder, "chat_template.jinja")
    section = {"dataset": "ultrachat", "samples": 2, "length": 64}
    method = {"name": "gptq", "group_size": 32}

    with pytest.raises(UserError, match=r"conversations: .*model has no chat template\.\nCalibra"):
        planned({"folder": folder}, tmp_path / "run", calibration=section, method=method)


def test_a_task_in_a_template_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    drop(folder, "chat_template.jinja")

    with pytest.raises(UserError, match="hubq_piqa is to use the chat template"):
        planned({"folder": folder}, tmp_path / "run")


def test_a_sentencepiece_tokenizer_without_its_library_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(folder, "tokenizer.json", "tokenizer_config.json")
    (folder / "tokenizer.model").write_bytes(b"\x0a\x0btest")
    monkeypatch.setattr("hubq.sources.tokenizer.find_spec", lambda name: None)

    with pytest.raises(UserError, match="pip install sentencepiece"):
        planned({"folder": folder}, tmp_path / "run")


def with_tokens(folder: Path, *tokens: str, special: bool) -> None:
    """Add tokens to a model's tokenizer until they go beyond its 260 rows."""
    tokenizer = tiny_tokenizer()
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    else:
        tokenizer.add_tokens(list(tokens))
    tokenizer.save_pretrained(folder)


def test_ids_beyond_the_embeddings_are_refused(folder: Path, tmp_path: Path) -> None:
    with_tokens(folder, "<a>", "<b>", "<c>", special=False)

    with pytest.raises(UserError, match=r"has ids up to 260, and the model's embeddings have 260"):
        planned({"folder": folder}, tmp_path / "run")


def test_a_special_token_that_no_text_becomes_may_lie_beyond(folder: Path, tmp_path: Path) -> None:
    with_tokens(folder, "<a>", "<b>", "<pad>", special=True)

    planned({"folder": folder}, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {
                "method": {"name": "gptq", "group_size": 32},
                "calibration": {"dataset": "c4", "length": 513},
                "evaluate": {"efficiency": None},
            },
            "calibration.length: 513 tokens",
        ),
        (
            {
                "evaluate": {
                    "perplexity": [{"dataset": "c4", "length": 600}],
                    "efficiency": None,
                }
            },
            "evaluate.perplexity.0.length: 600 tokens",
        ),
        (
            {"evaluate": {"efficiency": {"prompt": 500, "output": 20}}},
            "evaluate.efficiency, prompt 500 and output 20: 520 tokens",
        ),
    ],
    ids=["calibration", "perplexity", "efficiency"],
)
def test_what_is_longer_than_the_positions_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(UserError, match="made for 512 positions") as caught:
        planned({"folder": folder}, tmp_path / "run", **changes)

    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({}, None),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4}}, 16384),
        (
            {
                "max_position_embeddings": 32768,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                },
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
            },
            131072,
        ),
        ({"max_position_embeddings": 512, "rope_scaling": {"type": "yarn", "factor": "x"}}, 512),
    ],
)
def test_positions_are_those_that_scaling_reaches(
    config: dict[str, Any], positions: int | None
) -> None:
    assert positions_of(config) == positions


def test_of_a_repo_only_the_small_files_are_brought(
    client: Client, folder: Path, tmp_path: Path
) -> None:  # a second: a hub starts
    drop(folder, "chat_template.jinja")
    client.api().create_repo("acme/small")
    client.api().upload_folder(repo_id="acme/small", folder_path=folder)

    with pytest.raises(UserError, match=r"acme/small@.* has none"):
        planned("acme/small", tmp_path / "run", client)

    commit = client.api().model_info("acme/small").sha
    found = {
        name: try_to_load_from_cache("acme/small", name, revision=commit)
        for name in ("tokenizer.json", "model.safetensors")
    }
    assert isinstance(found["tokenizer.json"], str)
    assert found["model.safetensors"] is None


def test_a_tokenizer_that_is_no_json_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0"})[:-3])

    with pytest.raises(UserError, match="tokenizer"):
        planned({"folder": folder}, tmp_path / "run")
