"""A tuned walk: the second stream, the base's entropy, resuming, and what untuned runs pay."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_model
from transformers import AutoModelForCausalLM

from hubq.client.client import Client
from hubq.machine.progress import SILENT, Clock
from hubq.methods.db_llm import DBLLM
from hubq.methods.gptq import GPTQ
from hubq.records.plan import Plan
from hubq.sources.architecture import family_of
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.resuming import VARIABLE, States
from hubq.stages.quantize.streams import settled
from hubq.stages.quantize.tuning import BlockTuning, Teacher, pass_on, prediction_entropy
from hubq.stages.quantize.walk import Walk
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
TOKENS = torch.arange(60).view(3, 20)


class Opened:
    """A tiny model with its skeleton, its weights and the hidden states of some tokens."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_bytes())
        self.folder = folder
        self.skeleton = Skeleton(config, family_of(config), torch.device("cpu"), torch.bfloat16)
        self.weights = Weights(folder)
        self.hidden = self.weights.read("model.embed_tokens.weight")[TOKENS]

    def block(self, number: int = 0) -> Block:
        return Block(self.skeleton, number, self.weights)

    def outputs(self) -> Any:
        """Return what transformers makes of the same tokens."""
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.bfloat16)
        with torch.inference_mode():
            return model(TOKENS, output_hidden_states=True)


@pytest.fixture
def opened(tiny_model: Callable[[str], Path]) -> Opened:
    return Opened(tiny_model("llama"))


@pytest.mark.parametrize("family", ["llama", "llama3.2", "mistral", "qwen2", "qwen3"])
def test_the_entropy_is_that_of_the_models_own_predictions(
    family: str, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hubq.stages.quantize.tuning.PIECE", 100
    )  # three pieces of the head, the last ragged
    opened = Opened(tiny_model(family))

    entropy = prediction_entropy(
        opened.hidden, opened.skeleton, opened.weights, States(tmp_path), SILENT
    )

    predicted = opened.outputs().logits.float().log_softmax(2)
    exact = -(predicted.exp() * predicted).sum(2)
    assert torch.allclose(entropy, exact, atol=2e-3)


def test_the_teacher_moves_on_as_the_base_does(opened: Opened) -> None:
    teacher = Teacher(opened.hidden.clone(), torch.zeros(3, 20))

    with torch.no_grad():
        teacher.advance(opened.block())

    assert torch.equal(settled(teacher.hidden), opened.outputs().hidden_states[1])


def test_a_pass_for_the_entropy_goes_on_from_the_hidden_states_it_kept(
    opened: Opened, tmp_path: Path
) -> None:
    teacher = Teacher(opened.hidden.clone(), torch.zeros(3, 20))
    with torch.no_grad():
        teacher.advance(opened.block(0))
    states = States(tmp_path / "killed")
    states.write(1, {"hidden": settled(teacher.hidden)})
    nothing = torch.zeros_like(opened.hidden)

    again = prediction_entropy(nothing, opened.skeleton, opened.weights, states, SILENT)

    whole = States(tmp_path / "whole")
    expected = prediction_entropy(opened.hidden, opened.skeleton, opened.weights, whole, SILENT)
    assert torch.equal(again, expected)


def test_a_finished_pass_for_the_entropy_is_only_read(opened: Opened, tmp_path: Path) -> None:
    arguments = (opened.skeleton, opened.weights, States(tmp_path), SILENT)
    first = prediction_entropy(opened.hidden, *arguments)

    again = prediction_entropy(torch.zeros_like(opened.hidden), *arguments)

    assert torch.equal(again, first)


def test_the_error_of_a_tuned_linear_is_that_of_its_last_weights(opened: Opened) -> None:
    hidden = opened.hidden.clone()
    teacher = Teacher(opened.hidden.clone(), torch.ones(3, 20))
    block = opened.block()
    outcome = Walk(block, DBLLM(group_size=32, epochs=1), torch.bfloat16, Clock()).run(
        hidden, lambda: None, teacher
    )

    name = "model.layers.0.self_attn.q_proj"
    weight = block.stored["self_attn.q_proj.weight"].float()
    reaching = block.into_attention(opened.hidden).detach().float().flatten(0, 1)
    lost = reaching @ (outcome.quantized[name].dequantize() - weight).T
    relative = float(lost.square().sum() / (reaching @ weight.T).square().sum())
    assert outcome.errors[name] == pytest.approx(relative, rel=0.02)


def test_a_tuned_block_passes_on_what_its_last_weights_make(opened: Opened) -> None:
    hidden = opened.hidden.clone()
    teacher = Teacher(opened.hidden.clone(), torch.ones(3, 20))
    block = opened.block()

    outcome = Walk(block, DBLLM(group_size=32, epochs=1), torch.bfloat16, Clock()).run(
        hidden, lambda: None, teacher
    )

    for name, result in outcome.quantized.items():
        block.set(f"{name.removeprefix('model.layers.0.')}.weight", result.dequantize())
    with torch.no_grad():
        assert torch.equal(hidden, block.forward(opened.hidden))


def test_a_block_runs_differentiably_with_other_weights(opened: Opened) -> None:
    block = opened.block()
    tuning = BlockTuning(block, {}, opened.hidden, Teacher(opened.hidden, torch.zeros(3, 20)))
    name = "model.layers.0.mlp.down_proj"
    weight = torch.zeros_like(tuning.weight(name)).requires_grad_()

    torch.autograd.backward(tuning.forward(tuning.inputs(torch.tensor([1])), {name: weight}).sum())

    assert weight.grad is not None
    assert weight.grad.any()
    assert block.linear("mlp.down_proj").weight.grad is None


def test_without_errors_a_block_passes_on_what_the_base_does(opened: Opened) -> None:
    block = opened.block()
    hidden = opened.hidden.clone()
    teacher = Teacher(opened.hidden.clone(), torch.zeros(3, 20))
    tuning = BlockTuning(block, {}, opened.hidden, teacher)

    with torch.no_grad():
        teacher.advance(block)
        errors = pass_on(block, tuning, hidden)

    assert errors == {}
    assert torch.equal(hidden, settled(teacher.hidden))


def test_a_method_that_does_not_tune_runs_no_block_a_second_time(opened: Opened) -> None:
    block = opened.block()
    seen: list[object] = []
    block.module.register_forward_hook(lambda *given: seen.append(given))

    Walk(block, GPTQ(group_size=32), torch.bfloat16, Clock()).run(opened.hidden, lambda: None)

    assert not seen


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function from a name to a planned run of DB-LLM on a model of three blocks."""
    text = tmp_path / "calibration.txt"
    text.write_text("".join(f"The {number}th llama.\n" for number in range(90)))
    save_tiny_model("llama", tmp_path / "deep", num_hidden_layers=3)
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"folder": tmp_path / "deep"},
            "method": {"name": "db_llm", "group_size": 32, "epochs": 1},
            "calibration": {"dataset": {"file": text}, "samples": 4, "length": 64},
            "publish": {"org": "me"},
            "format": "hubq",
        }
    )

    def planned(name: str) -> Path:
        run = tmp_path / name
        run.mkdir()
        plan(recipe, run, NOWHERE)
        return run

    return planned


# Starts three processes, each of which imports torch and transformers: some seconds.
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(run_of: Callable[[str], Path]) -> None:
    whole, killed = run_of("whole"), run_of("killed")
    quantize(Plan.load(whole / "plan.json"), whole, NOWHERE)

    _quantize_until(killed, "blocks/teacher/00001/states.safetensors")
    _quantize_until(killed, "blocks/block-00000.json")
    quantize(Plan.load(killed / "plan.json"), killed, NOWHERE)

    first, second = (
        {path.name: path.read_bytes() for path in (run / "model").iterdir()}
        for run in (whole, killed)
    )
    assert first == second


# Quantizes and trains three blocks.
def test_a_checkpoint_says_what_the_method_chose_for_itself(run_of: Callable[[str], Path]) -> None:
    run = run_of("run")

    checkpoint = quantize(Plan.load(run / "plan.json"), run, NOWHERE)

    assert DBLLM().remark in checkpoint.facts
    assert checkpoint.seconds_by_part["tuning"] > 0


def _quantize_until(run: Path, file: str) -> None:
    """Quantize in a process of its own, which dies once it has written a file."""
    process = subprocess.run(
        [sys.executable, "-c", QUANTIZE, str(run), str(run / file)],
        env={**os.environ, VARIABLE: "0"},
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


QUANTIZE = """
import os
import signal
import sys
from pathlib import Path
from hubq.client.client import Client
from hubq.stages.plan.plan import Plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.resuming import VARIABLE, States

replace = os.replace

def dying(source, target):
    replace(source, target)
    if str(target) == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = dying
run = Path(sys.argv[1])
quantize(Plan.load(run / "plan.json"), run, Client(endpoint="http://127.0.0.1:9"))
"""
