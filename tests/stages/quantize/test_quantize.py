"""The walk from a plan to a folder: what it feeds each layer, resuming, and the same bytes."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.methods import Group, Inputs, Layer, Method
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.sources.shards import Weights, write
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.resuming import VARIABLE
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import Affine, Grid

NOWHERE = Client(endpoint="http://127.0.0.1:9")
FAMILIES = ["llama", "llama3.1", "llama3.2", "mistral", "qwen2", "qwen3"]


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """Return a function from a model folder and changes by section to a recipe with text."""
    text = tmp_path / "calibration.txt"
    text.write_text(
        "".join(f"The {number}th llama ate {number * 7} leaves.\n" for number in range(90))
    )

    def make(folder: Path, name: str = "gptq", bits: int = 4, **changes: object) -> Recipe:
        values: dict[str, object] = {
            "name": "tiny",
            "model": {"folder": folder},
            "method": {"name": name, "bits": bits, "group_size": 32},
            "calibration": {"dataset": {"file": text}, "samples": 8, "length": 64},
            "publish": {"org": "me"},
        }
        return Recipe.model_validate(values | changes)

    return make


def quantized(recipe: Recipe, run: Path) -> Checkpoint:
    run.mkdir(parents=True, exist_ok=True)
    return quantize(plan(recipe, run, NOWHERE), run, NOWHERE)


def digest(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def dequantized(folder: Path, plan: Plan) -> dict[str, Tensor]:
    """Return the state of the model that a folder holds, read by the format's own reader."""
    weights = Weights(folder)
    config = json.loads((folder / "config.json").read_bytes())["quantization_config"]
    form = format_named(plan.recipe["format"])
    everything = {name: weights.read(name) for name in weights.info}
    modules = [each.name for each in plan.modules if each.quantized]
    state = {
        f"{name}.weight": form.unpack(name, everything, config).dequantize() for name in modules
    }
    packed = tuple(f"{name}.weight" for name in modules)
    return state | {
        name: value for name, value in everything.items() if not name.startswith(packed)
    }


def logits(model: Any, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(tokens).logits.float()
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_every_family_is_quantized_and_stays_close(
    family: str,
    method: str,
    tiny_model: Callable[[str], Path],
    recipe: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    base = tiny_model(family)
    wanted = recipe(base, method, bits=8)

    checkpoint = quantized(wanted, tmp_path / "run")

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    tokens = torch.arange(40)[None]
    expected = logits(model, tokens)
    state = dequantized(tmp_path / "run" / "model", Plan.load(tmp_path / "run" / "plan.json"))
    model.load_state_dict({name: value.bfloat16() for name, value in state.items()}, strict=False)
    assert (logits(model, tokens) - expected).norm() / expected.norm() < 0.03
    assert all(layer.error is not None and layer.error < 1e-3 for layer in checkpoint.layers)


def test_without_calibration_the_error_of_each_layers_weights_is_recorded(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    base = tiny_model("llama")

    checkpoint = quantized(recipe(base, "rtn"), tmp_path / "run")

    state = dequantized(tmp_path / "run" / "model", Plan.load(tmp_path / "run" / "plan.json"))
    for layer in checkpoint.layers:
        weight = Weights(base).read(f"{layer.name}.weight").float()
        lost = (state[f"{layer.name}.weight"].float() - weight).square().sum()
        assert layer.error is None
        assert layer.weight_error == pytest.approx(float(lost / weight.square().sum()), rel=0.01)


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_two_runs_give_the_same_bytes(
    method: str, tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    wanted = recipe(tiny_model("llama"), method)

    quantized(wanted, tmp_path / "first")
    quantized(wanted, tmp_path / "second")

    assert digest(tmp_path / "first" / "model") == digest(tmp_path / "second" / "model")


def test_a_plan_estimates_the_bytes_and_the_bits(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    checkpoint = quantized(recipe(tiny_model("llama3.2")), tmp_path / "run")

    planned = Plan.load(tmp_path / "run" / "plan.json")
    weights = Weights(tmp_path / "run" / "model")
    assert planned.bytes == sum(info.end - info.begin for info in weights.info.values())
    assert checkpoint.model_bits == pytest.approx(8 * checkpoint.weight_bytes / planned.parameters)


def test_a_tied_head_stays_one_tensor(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    quantized(recipe(tiny_model("llama3.2")), tmp_path / "run")

    names = Weights(tmp_path / "run" / "model").info
    assert "model.embed_tokens.weight" in names
    assert not [name for name in names if name.startswith("lm_head")]


def test_an_untied_head_is_rounded_where_the_recipe_says_so(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    method = {"name": "rtn", "bits": 4, "group_size": 32, "symmetric": True}

    quantized(recipe(tiny_model("llama"), method=method, embeddings=8), tmp_path / "run")

    names = Weights(tmp_path / "run" / "model").info
    assert "lm_head.weight_packed" in names
    assert "lm_head.weight" not in names


# Kills a real process again and again: some seconds.
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    save_tiny_model("llama", tmp_path / "deep", num_hidden_layers=12)
    wanted = recipe(tmp_path / "deep", "awq")
    quantized(wanted, tmp_path / "whole")
    run = tmp_path / "killed"
    run.mkdir()
    plan(wanted, run, NOWHERE)

    finished = subprocess.run(
        [sys.executable, "-c", KILLER, str(run)],
        env={**os.environ, VARIABLE: "0"},
        capture_output=True,
        text=True,
        check=True,
    )

    kills, seen = json.loads(finished.stdout)
    assert kills >= 3
    assert any(0 < count < 12 for count in seen), "no kill left a run half-way"
    assert digest(run / "model") == digest(tmp_path / "whole" / "model")


# Forks before any thread pool exists, so that each try starts at once.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import hubq.stages.quantize.quantization
from hubq.client.client import Client
from hubq.stages.plan.plan import Plan
from hubq.stages.quantize.quantize import quantize
import transformers.models.llama.modeling_llama

run, chance, kills, seen = Path(sys.argv[1]), random.Random(7), 0, []
finished = lambda: len(list(run.glob("blocks/block-*.json")))
while not (run / "checkpoint.json").exists():
    child = os.fork()
    if child == 0:
        quantize(Plan.load(run / "plan.json"), run, Client(endpoint="http://127.0.0.1:9"))
        os._exit(0)
    target = finished() + chance.randint(0, 3)
    running = True
    while running and finished() < target:
        time.sleep(0.001)
        running = os.waitpid(child, os.WNOHANG) == (0, 0)
    time.sleep(chance.uniform(0, 0.1))
    if running and os.waitpid(child, os.WNOHANG) == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        seen.append(finished())
print(json.dumps([kills, seen]))
"""


class _Scale(Method):
    """Scales channels and rounds to 8 bits: what is lost comes from the rounding alone."""

    title = "scale"
    paper = "https://arxiv.org/abs/0"
    bibtex = "@misc{}"
    needs = frozenset({"magnitude"})
    folds = frozenset({"norm", "linear"})

    @property
    def nominal_bits(self) -> float:
        return 8.0

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Affine:
        return Affine.sketch(shape, Grid(8, 32, scale_dtype=scale_dtype))

    def quantize(self, layer: Layer) -> Affine:
        return Affine.fit(layer.weight, Grid(8, 32, scale_dtype=layer.scale_dtype))

    def scale(self, group: Group) -> Tensor:
        assert group.inputs.mean_magnitude is not None
        return group.snap(group.inputs.mean_magnitude.clamp(min=1e-3).sqrt())


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_folding_scales_leaves_the_blocks_function_alone(
    family: str, tiny_model: Callable[[str], Path]
) -> None:
    from hubq.machine.progress import Clock
    from hubq.sources.architecture import family_of
    from hubq.sources.skeleton import Skeleton
    from hubq.stages.quantize.block import Block
    from hubq.stages.quantize.walk import Walk

    folder = tiny_model(family)
    config = json.loads((folder / "config.json").read_bytes())
    skeleton = Skeleton(config, family_of(config), torch.device("cpu"), torch.bfloat16)
    block = Block(skeleton, 0, Weights(folder))
    hidden = torch.randn(2, 24, config["hidden_size"]).bfloat16()

    outcome = Walk(block, _Scale(), torch.bfloat16, Clock()).run(hidden, lambda: None)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    changed = {name: value for name, value in outcome.dense.items() if "norm" in name}
    assert any(
        not torch.equal(value.float(), model.get_parameter(name)) for name, value in changed.items()
    )
    tokens = torch.arange(30)[None]
    before = logits(model, tokens)
    for name, tensor in outcome.quantized.items():
        model.get_parameter(f"{name}.weight").data = tensor.dequantize()
    for name, value in outcome.dense.items():
        model.get_parameter(name).data = value.float()
    assert (logits(model, tokens) - before).norm() / before.norm() < 0.01


def test_later_layers_are_solved_on_what_quantized_ones_feed_them(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    folder = tiny_model("llama")
    seen: dict[str, Inputs] = {}

    class Spy(_Scale):
        """Rounds to nothing at all and remembers its inputs."""

        needs = frozenset({"gram"})
        folds = frozenset()

        def quantize(self, layer: Layer) -> Affine:
            seen[layer.name] = layer.inputs
            return Affine.fit(torch.zeros_like(layer.weight), Grid(8, 32))

    from hubq.machine.progress import Clock
    from hubq.sources.architecture import family_of
    from hubq.sources.skeleton import Skeleton
    from hubq.stages.quantize.block import Block
    from hubq.stages.quantize.walk import Walk

    config = json.loads((folder / "config.json").read_bytes())
    skeleton = Skeleton(config, family_of(config), torch.device("cpu"), torch.bfloat16)
    block = Block(skeleton, 0, Weights(folder))
    Walk(block, Spy(), torch.bfloat16, Clock()).run(torch.randn(1, 8, 64).bfloat16(), lambda: None)

    output, down = (
        seen[f"model.layers.0.{name}"] for name in ("self_attn.o_proj", "mlp.down_proj")
    )
    assert output.gram is not None
    assert down.gram is not None
    assert not output.gram.any(), "v_proj was zeroed, so nothing may reach o_proj"
    assert not down.gram.any()


def damaged(folder: Path, target: Path, name: str, value: float) -> Path:
    """Copy a model with one number of one tensor replaced."""
    weights = Weights(folder)
    tensors = {each: weights.read(each) for each in weights.info}
    tensors[name].view(-1)[3] = value
    target.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (target / path.name).write_bytes(path.read_bytes())
    write(target / "model.safetensors", tensors)
    return target


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_weights_that_are_not_finite_are_named(
    name: str, tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    broken = damaged(tiny_model("llama"), tmp_path / "broken", name, float("nan"))

    with pytest.raises(UserError, match=f"{name} holds NaN or inf"):
        quantized(recipe(broken), tmp_path / "run")


def test_activations_that_overflow_name_the_layer(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    broken = damaged(tiny_model("llama"), tmp_path / "broken", name, 3e38)

    with pytest.raises(UserError, match=r"model\.layers\.0\.mlp\.down_proj: .* inf or NaN"):
        quantized(recipe(broken), tmp_path / "run")


def test_too_little_calibration_text_says_how_much_there_is(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Too short.")
    section = {"dataset": {"file": short}, "samples": 8, "length": 64}

    with pytest.raises(UserError, match=r"short\.txt has 10 tokens, and 8 windows of 64 need 512"):
        quantized(recipe(tiny_model("llama"), calibration=section), tmp_path / "run")


def test_several_data_sets_give_the_same_bytes_each_time_and_are_named(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"body": f"A text of {name}. " * 200}))
    one = {"file": tmp_path / "one.jsonl", "field": "body", "weight": 3}
    two = {"file": tmp_path / "two.jsonl", "field": "body"}
    section = {"datasets": [one, two], "samples": 8, "length": 64, "seed": 5}
    wanted = recipe(tiny_model("llama"), calibration=section)

    first, second = (quantized(wanted, tmp_path / run) for run in ("first", "second"))

    assert first.calibration_tokens == 8 * 64
    told = r"6 windows of one\.jsonl, sha256:.*; 2 windows of two\.jsonl, sha256:"
    assert re.match(told, first.calibration_text or "")
    assert first.files == second.files


def test_no_file_is_left_of_an_interrupted_assembly(
    tiny_model: Callable[[str], Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    plan(recipe(tiny_model("llama"), "rtn"), run, NOWHERE)
    (run / "model.partial").mkdir()
    (run / "model.partial" / "left.txt").write_text("over")

    quantized(recipe(tiny_model("llama"), "rtn"), run)

    assert not (run / "model.partial").exists()
    assert "left.txt" not in os.listdir(run / "model")
