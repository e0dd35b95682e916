"""A config and the tensors beside it: of one model, or refused before anything is computed."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from contradicting_config import contradicting
from odd_folders import configure, logits, rewrite
from safetensors.torch import load_file

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.errors import UserError
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.architecture import family_of
from hubq.sources.find import find
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.plan.model_check import require_consistent
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.block import Block
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9", retries=RetryPolicy(tries=1))


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """Give a copy of a tiny model that a test may change."""
    return shutil.copytree(tiny_model("llama"), tmp_path / "model")


def require(folder: Path) -> None:
    require_consistent(find(ModelSection(folder=folder), NOWHERE))


@pytest.mark.parametrize("name", ["llama", "llama3.1", "llama3.2", "mistral", "qwen2", "qwen3"])
def test_models_of_every_family_are_consistent(
    name: str, tiny_model: Callable[[str], Path]
) -> None:
    require(tiny_model(name))


def test_a_plan_refuses_a_config_of_another_model(folder: Path, tmp_path: Path) -> None:
    configure(folder, num_hidden_layers=1)
    recipe = {
        "name": "tiny",
        "model": {"folder": folder},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "publish": {"org": "me"},
    }

    with pytest.raises(UserError, match="num_hidden_layers 1, but its files hold 2 blocks"):
        plan(Recipe.model_validate(recipe), tmp_path / "run", NOWHERE)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_hidden_layers": 1}, "files hold 2 blocks"),
        ({"num_hidden_layers": 10_000}, "files hold 2 blocks"),
        ({"vocab_size": 256}, "of another shape: model.embed_tokens.weight, lm_head.weight"),
        ({"hidden_size": 128}, r"of another shape: .* \(260 x 64 instead of 260 x 128\)"),
        ({"tie_word_embeddings": True, "vocab_size": 259}, "of another shape"),
        ({"intermediate_size": 96}, r"mlp.gate_proj.weight.* \(128 x 64 instead of 96 x 64\)"),
        ({"num_attention_heads": 8}, r"self_attn.q_proj.weight.*instead of 128 x 64"),
        ({"num_key_value_heads": 3}, "of another shape|makes no llama"),
        ({"head_dim": 1073741824}, "head_dim 1073741824, but the files' tensors have 1 to 260"),
        ({"attention_bias": True}, "missing: model.layers.0.self_attn.q_proj.bias"),
        ({"mlp_bias": True}, "missing: model.layers.0.mlp.gate_proj.bias"),
        ({"hidden_act": "nonsense"}, "make a llama model from config.json: .*nonsense"),
        ({"model_type": "gpt2"}, "transformers can't make a gpt2 model from config.json"),
        ({"model_type": "qwen2"}, "model_type qwen2 belongs to another architecture"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 0, "rope_theta": 1e4}}, "not finite"),
        ({"num_labels": 1 << 62}, "no model has more than 1,000,000"),
        ({"num_hidden_layers": 1_000_000_000}, "no model has more than 10,000"),
    ],
)  # fmt: skip
def test_a_config_that_contradicts_the_tensors_is_refused(
    changes: dict[str, Any], complaint: str, folder: Path
) -> None:
    if changes.get("tie_word_embeddings"):
        rewrite(folder, lambda state: {k: v for k, v in state.items() if k != "lm_head.weight"})
    configure(folder, **changes)

    with pytest.raises(UserError, match=complaint):
        require(folder)


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {name: each for name, each in state.items() if name not in names}


def with_biases(*linears: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a change that gives linears of each block a bias."""

    def change(state: dict[str, Any]) -> dict[str, Any]:
        biases = {
            name.replace(".weight", ".bias"): torch.ones(each.shape[0]).bfloat16()
            for name, each in state.items()
            if name.split(".")[-2] in linears
        }
        return {**state, **biases}

    return change


ATTENTION = ("q_proj", "k_proj", "v_proj")


@pytest.mark.parametrize(
    ("change", "correction"),
    [
        (with_biases(*ATTENTION, "o_proj"), {"attention_bias": True}),
        (with_biases("gate_proj", "up_proj", "down_proj"), {"mlp_bias": True}),
        (
            with_biases(*ATTENTION),
            {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
        ),
        (without("lm_head.weight"), {"tie_word_embeddings": True}),
        (
            lambda state: {
                name: each[:250] if each.shape[0] == 260 else each for name, each in state.items()
            },
            {"vocab_size": 250},
        ),
    ],
)
def test_what_a_message_says_to_set_makes_the_model_whole(
    change: Callable[[dict[str, Any]], dict[str, Any]], correction: dict[str, Any], folder: Path
) -> None:
    rewrite(folder, change)
    with pytest.raises(UserError, match="They fit together with") as refusal:
        require(folder)
    said = ", ".join(f"{key}: {json.dumps(value)}" for key, value in correction.items())
    assert f"fit together with {said} in config.json" in str(refusal.value)

    configure(folder, **correction)

    require(folder)
    logits(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    rewrite(folder, without("model.layers.1.input_layernorm.weight"))

    with pytest.raises(UserError, match=r"missing: model\.layers\.1\.input_layernorm\.weight"):
        require(folder)


def test_a_tensor_without_a_place_is_named(folder: Path) -> None:
    rewrite(folder, lambda state: {**state, "model.layers.0.extra.weight": torch.ones(2)})

    with pytest.raises(UserError, match=r"without a place in the architecture: .*0\.extra\.weight"):
        require(folder)


def test_weights_that_are_whole_numbers_are_refused(folder: Path) -> None:
    rewrite(folder, lambda state: {name: each.to(torch.int16) for name, each in state.items()})

    with pytest.raises(UserError, match="hold I16, which is not a 16- or 32-bit weight"):
        require(folder)


@pytest.fixture
def silence() -> Iterator[None]:
    """Let transformers say nothing of odd configs."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def accepted(folder: Path) -> bool:
    try:
        require(folder)
    except UserError:
        return False
    return True


# Each config is built without weights, and those that pass are loaded: some 5 seconds in all.
@pytest.mark.usefixtures("silence")
def test_a_config_is_refused_or_read_as_transformers_reads_it(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "model.safetensors")
    tokens, read = torch.arange(12), 0
    for seed in range(60):
        changed = contradicting(config, Random(seed))
        (folder / "config.json").write_text(json.dumps(changed))
        if not accepted(folder):
            continue

        skeleton = Skeleton(changed, family_of(changed), torch.device("cpu"))
        hidden = stored["model.embed_tokens.weight"][tokens][None].float()
        for number in range(2):
            block = Block(skeleton, number, Weights(folder))
            block.module.float()
            with torch.inference_mode():
                hidden = block.forward(hidden)

        expected = hidden_states(folder)
        assert torch.allclose(hidden, expected, atol=1e-4), f"seed {seed}"
        read += 1
    assert 5 < read < 50


def hidden_states(folder: Path) -> torch.Tensor:
    """Return what plain transformers has before its last norm, for twelve tokens."""
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    model = loader.from_pretrained(folder, dtype=torch.float32)
    model.model.norm = torch.nn.Identity()
    with torch.inference_mode():
        found: torch.Tensor = model.model(torch.arange(12)[None]).last_hidden_state
    return found
