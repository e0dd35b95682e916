"""The dtype that calibration text runs through a model in: pinned by the plan, kept by the run."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny_model

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.device import VARIABLE
from hubq.machine.progress import Advance
from hubq.methods import Need
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.run_folder import PLAN
from hubq.sources.find import find
from hubq.stages.plan.costs import seconds
from hubq.stages.plan.memory import Walked
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.input_statistics import InputStatistics
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.resuming import VARIABLE as KEEP_EVERY
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors.gram import add_lower_gram, factors_in

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEEDS: frozenset[Need] = frozenset({"gram", "magnitude", "sample"})
As = Callable[[str], None]


class Killed(Exception):  # noqa: N818 - what happens, not what is wrong
    """The end of a run that is not finished."""


class OneBlock:
    """A progress that lets one block be finished."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Open a task, which does not live for long."""
        steps = iter(range(6))

        def advance(_: int) -> None:
            if next(steps) == 5:  # after what was finished before, and four groups of a block
                raise Killed

        yield advance


@pytest.fixture
def machine_fast_in(monkeypatch: pytest.MonkeyPatch) -> As:
    """Return a function that moves the test to a machine that is fast in a dtype."""
    return lambda dtype: monkeypatch.setenv(VARIABLE, dtype)


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Recipe:
    text = tmp_path / "calibration.txt"
    text.write_text("".join(f"Llama {number} ate {number * 7} leaves.\n" for number in range(90)))
    values = {
        "name": "tiny",
        "model": {"folder": tiny_model("llama")},
        "method": {"name": "awq", "bits": 4, "group_size": 32},
        "calibration": {"dataset": {"file": text}, "samples": 4, "length": 64},
        "publish": {"org": "me"},
    }
    return Recipe.model_validate(values)


def quantized(recipe: Recipe, run: Path) -> Checkpoint:
    run.mkdir(exist_ok=True)
    return quantize(plan(recipe, run, NOWHERE), run, NOWHERE)


def begun(recipe: Recipe, run: Path) -> None:
    """Quantize one block of two, and keep what leaves it."""
    run.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEEP_EVERY, "0")
        with pytest.raises(Killed):
            quantize(plan(recipe, run, NOWHERE), run, NOWHERE, OneBlock())
    assert [path.name for path in run.glob("blocks/block-*.json")] == ["block-00000.json"]


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_plan_and_a_checkpoint_say_what_calibrating_ran_in(
    dtype: str, recipe: Recipe, machine_fast_in: As, tmp_path: Path
) -> None:
    machine_fast_in(dtype)

    checkpoint = quantized(recipe, tmp_path / "run")

    assert Plan.load(tmp_path / "run" / PLAN).compute_dtype == dtype
    assert checkpoint.compute_dtype == dtype


def test_without_calibration_nothing_runs_in_any_dtype(recipe: Recipe, tmp_path: Path) -> None:
    values = recipe.model_dump() | {"method": {"name": "rtn", "group_size": 32}}

    checkpoint = quantized(Recipe.model_validate(values), tmp_path / "run")

    assert Plan.load(tmp_path / "run" / PLAN).compute_dtype is None
    assert checkpoint.compute_dtype is None


def test_a_run_goes_on_in_the_dtype_it_began_in_on_any_machine(
    recipe: Recipe, machine_fast_in: As, tmp_path: Path
) -> None:
    machine_fast_in("float32")
    quantized(recipe, tmp_path / "whole")
    begun(recipe, tmp_path / "moved")

    machine_fast_in("bfloat16")
    checkpoint = quantized(recipe, tmp_path / "moved")

    assert checkpoint.compute_dtype == "float32"
    assert digest(tmp_path / "moved") == digest(tmp_path / "whole")


def test_a_run_whose_plan_is_of_before_goes_on_as_its_hidden_states_are(
    recipe: Recipe, machine_fast_in: As, tmp_path: Path
) -> None:
    quantized(recipe, tmp_path / "whole")
    begun(recipe, tmp_path / "old")
    old = json.loads((tmp_path / "old" / PLAN).read_text())
    del old["compute_dtype"]
    (tmp_path / "old" / PLAN).write_text(json.dumps(old))

    machine_fast_in("float32")
    checkpoint = quantized(recipe, tmp_path / "old")

    assert checkpoint.compute_dtype == Plan.load(tmp_path / "whole" / PLAN).compute_dtype
    assert digest(tmp_path / "old") == digest(tmp_path / "whole")


def test_a_plan_that_was_only_looked_at_follows_the_machine(
    recipe: Recipe, machine_fast_in: As, tmp_path: Path
) -> None:
    machine_fast_in("bfloat16")
    there = plan(recipe, tmp_path / "run", NOWHERE)

    machine_fast_in("float32")
    here = plan(recipe, tmp_path / "run", NOWHERE)

    assert (there.compute_dtype, here.compute_dtype) == ("bfloat16", "float32")
    assert here.peak_memory > there.peak_memory
    assert Plan.load(tmp_path / "run" / PLAN) == here


def test_measuring_otherwise_leaves_the_dtype_of_a_run_that_has_begun(
    recipe: Recipe, machine_fast_in: As, tmp_path: Path
) -> None:
    machine_fast_in("bfloat16")
    begun(recipe, tmp_path / "run")

    machine_fast_in("float32")
    values = recipe.model_dump() | {"evaluate": {"seed": 5, "dtype": "float32"}}
    again = plan(Recipe.model_validate(values), tmp_path / "run", NOWHERE)

    assert again.recipe["evaluate"]["seed"] == 5
    assert again.compute_dtype == "bfloat16"


def test_a_wish_for_no_dtype_is_refused_before_anything_is_computed(
    recipe: Recipe, machine_fast_in: As, tmp_path: Path
) -> None:
    machine_fast_in("half")

    with pytest.raises(UserError, match="HUBQ_COMPUTE_DTYPE is 'half'"):
        plan(recipe, tmp_path / "run", NOWHERE)


def test_a_model_of_float32_weights_keeps_them_while_it_is_walked(
    recipe: Recipe, machine_fast_in: As, tmp_path: Path
) -> None:
    save_tiny_model("llama", tmp_path / "wide")
    as_float32(tmp_path / "wide")
    machine_fast_in("float32")
    values = recipe.model_dump() | {"model": {"folder": tmp_path / "wide"}}

    checkpoint = quantized(Recipe.model_validate(values), tmp_path / "run")

    assert checkpoint.compute_dtype == "float32"
    assert all(0 < (layer.error or 0) < 0.05 for layer in checkpoint.layers)


def as_float32(folder: Path) -> None:
    """Store a model's weights in float32."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file({name: each.float() for name, each in load_file(file).items()}, file)


def test_gathering_leaves_what_it_sees_alone() -> None:
    inputs = torch.randn(2, 8, 16)
    before = inputs.clone()

    InputStatistics(NEEDS, inputs).add(inputs)

    assert torch.equal(inputs, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_over_tokens_are_exact_in_the_dtype_that_they_have(dtype: torch.dtype) -> None:
    inputs = torch.randn(4, 64, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    statistics = InputStatistics(NEEDS, inputs)

    statistics.add(inputs)
    found = statistics.result("up_proj")

    flat = inputs.flatten(0, 1).double()
    assert found.gram is not None
    assert torch.allclose(found.gram.double(), flat.T @ flat, rtol=0, atol=1e-2)
    assert found.dtype == dtype


def test_products_are_reduced_only_as_far_as_the_dtype_of_the_tokens() -> None:
    before = torch.get_float32_matmul_precision()
    gram, inputs = torch.zeros(8, 8), torch.randn(16, 8)

    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        with factors_in(dtype):
            found[dtype] = torch.get_float32_matmul_precision()
            add_lower_gram(gram, inputs)

    assert found == {torch.float32: "highest", torch.bfloat16: "medium"}
    assert torch.get_float32_matmul_precision() == before


def test_float32_takes_more_memory_and_time_than_bfloat16(recipe: Recipe) -> None:
    many = recipe.model_dump() | {
        "calibration": {**recipe.model_dump()["calibration"], "samples": 4096}
    }
    large = Recipe.model_validate(many)
    source = find(recipe.model, NOWHERE)
    block = [each for name, each in source.tensors.items() if name.startswith("model.layers.0.")]

    wide, narrow = (
        Walked(large, source.config, source.tensors, dtype).memory("device", gpu=False).host
        for dtype in ("float32", "bfloat16")
    )
    slow, fast = (seconds(large, source, dtype) for dtype in ("float32", "bfloat16"))

    tokens, hidden, widest = 4096 * 64, 64, 128
    copied = 4 * sum(math.prod(each.shape) for each in block)
    batch = 4 * 4096 * widest
    assert wide - narrow == 2 * tokens * (2 * hidden + widest) + 2 * batch + copied
    assert slow > fast
