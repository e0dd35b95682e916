"""The estimated memory of a training against allocations that are counted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from counted_memory import Counted
from pretend_device import pretending
from taught_model import examples_of, quantized
from tiny_models import save_tiny_model
from torch import nn

from hubq.client.client import Client
from hubq.machine.progress import SILENT
from hubq.methods.adapters.branches.scales import Scales
from hubq.methods.adapters.peqa import PEQA
from hubq.methods.adapters.qlora import QLoRA
from hubq.sources.find import find
from hubq.sources.instructions.tokens import Example, Examples
from hubq.stages.adapt import training
from hubq.stages.adapt.frozen_model import Beside, FrozenLinear, Replace, frozen_model
from hubq.stages.plan.adapting_memory import Adapting
from hubq.stages.plan.memory import CONTEXT
from hubq.stages.plan.plan import estimate
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import Affine

PROMPT, ANSWER, PAIRS, STEPS = 48, 16, 8, 2
# Beside each other as in large models: what is kept of tokens, weights, what is trained.
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 896,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "num_hidden_layers": 2,
    "max_position_embeddings": 256,
}
MARGIN = 0.1


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    save_tiny_model("llama", folder, **SHAPE)
    return folder


@pytest.fixture(scope="module")
def folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantized(base, tmp_path_factory.mktemp("codes") / "model", "compressed-tensors")


def recipe(base: Path, adapt: dict[str, Any]) -> Recipe:
    lengths = {"source_length": PROMPT, "target_length": ANSWER, "batch_size": PAIRS}
    data = {"dataset": {"file": "/pairs.jsonl"}, "steps": STEPS, "learning_rate": 1e-4}
    return Recipe.model_validate(
        {
            "name": "any",
            "model": {"folder": base, "base_model": "acme/Wide"},
            "method": {"name": "rtn", "bits": 4, "group_size": 32},
            "adapt": {**lengths, **data, **adapt},
            "publish": {"org": "me"},
        }
    )


def examples() -> Examples:
    """Return pairs as long as any may be."""
    ids = torch.arange(PROMPT + ANSWER) % 200
    targets = tuple([-100] * PROMPT + ids[PROMPT:].tolist())
    return examples_of([Example(tuple(ids.tolist()), targets)] * PAIRS)


def replacing(adapter: QLoRA | PEQA, device: torch.device) -> Replace:
    def replace(name: str, weight: Any, linear: nn.Linear) -> nn.Module:
        if isinstance(adapter, QLoRA):
            branch = adapter.branch(name, weight.shape).to(device)
            return Beside(FrozenLinear(weight, linear), branch)
        assert isinstance(weight, Affine)
        return Scales(weight, linear.bias, linear.weight.dtype)

    return replace


def counted(folder: Path, adapter: QLoRA | PEQA, states: Path) -> int:
    """Train for some steps there, and return the bytes that lived at most."""
    with pretending() as device, Counted() as living:
        model = frozen_model(folder, device, torch.bfloat16, replacing(adapter, device))
        parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        training.train(model, parameters, examples(), adapter, states, SILENT)
    return int(living.most)


# Each takes four seconds: every operation goes through Python.
@pytest.mark.parametrize(
    "adapt",
    [
        {"name": "qlora", "rank": 32, "at_once": 2, "dropout": 0.1},
        {"name": "ir_qlora", "rank": 8},
        {"name": "peqa"},
    ],
    ids=lambda adapt: "-".join(map(str, adapt.values())),
)
def test_a_training_holds_what_the_plan_says(
    adapt: dict[str, Any], base: Path, folder: Path, tmp_path: Path
) -> None:
    wanted = recipe(base, adapt)
    planned = estimate(wanted, find(wanted.model, Client(endpoint="http://127.0.0.1:9")))
    assert isinstance(wanted.adapt, QLoRA | PEQA)

    found = counted(folder, wanted.adapt, tmp_path)

    estimated = Adapting(wanted, planned, "bfloat16").memory(gpu=True).device - CONTEXT
    assert found == pytest.approx(estimated, rel=MARGIN)
