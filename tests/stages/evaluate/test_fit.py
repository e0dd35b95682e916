"""What doesn't fit into memory is evaluated block by block, and writes no texts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from quantized_folder import Choice, write
from safetensors.torch import load_file
from tiny_models import save_tiny_model

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.machine.memory import SPARE
from hubq.machine.progress import SILENT
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.stages.evaluate import fit
from hubq.stages.evaluate.against_base import ModelPair, measured
from hubq.stages.evaluate.fit import why_by_blocks
from hubq.stages.evaluate.jobs import Job, Order
from hubq.stages.evaluate.measurements.choice import harness_task
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask
from hubq.stages.evaluate.task import Outcome, keep_text
from hubq.stages.evaluate.worker import work
from hubq.tensors import Grid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_model("llama", tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("float32", 4)])
@pytest.mark.parametrize("is_packed", [False, True])
def test_what_does_not_fit_is_run_block_by_block(
    dtype: str, width: int, is_packed: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = sum(each.numel() for each in load_file(folder / "model.safetensors").values())
    if is_packed:
        grid = Grid(bits=4, group_size=32, symmetric=True)
        write(folder, folder.with_name("packed"), Choice(format_named("gptq"), grid))
        folder = folder.with_name("packed")
    size = int(SPARE * width * parameters)
    other = folder.with_name("other")
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).symlink_to(path)

    monkeypatch.setattr(fit, "available", lambda device: size)
    fits = why_by_blocks(folder, "cpu", dtype)
    monkeypatch.setattr(fit, "available", lambda device: size - 1)
    reason = why_by_blocks(other, "cpu", dtype)

    assert fits is None
    assert reason is not None
    assert "are free" in reason


def test_a_family_that_hubq_does_not_know_is_loaded_whole(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fit.VARIABLE, "blocks")

    assert why_by_blocks(tiny_model("gemma2"), "cpu", "bfloat16") is None


def test_no_other_way_can_be_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fit.VARIABLE, "half")

    with pytest.raises(UserError, match="HUBQ_EVALUATE is 'half': set it to whole or blocks"):
        why_by_blocks(folder, "cpu", "bfloat16")


def test_a_worker_finds_the_same_both_ways_and_says_which(folder: Path, tmp_path: Path) -> None:
    text = keep_text("The llama went home. " * 30)
    task = PerplexityTask(dataset="text", version="1", text=text, length=32, windows=None)
    found = []
    for number, reason in enumerate((None, "it does not fit")):
        order = Order(task=task, outcome=tmp_path / f"{number}.json")
        job = Job(folder=folder, device="cpu", dtype="bfloat16", orders=(order,), by_blocks=reason)
        work(job, SILENT)
        found.append(Outcome.load(order.outcome))

    assert found[0].scores == found[1].scores
    assert [each.by_blocks for each in found] == [False, True]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"efficiency": {}}, "has efficiency, which"),
        ({"efficiency": None, "tasks": ["hubq_piqa", "xsum"]}, "has tasks: xsum, which"),
    ],
)
def test_what_writes_is_refused_before_anything_is_measured(
    asked: dict[str, object], named: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fit.VARIABLE, "blocks")
    section = EvaluateSection.model_validate(asked)

    with pytest.raises(UserError, match=f"{named}(?s:.*)Set efficiency: null"):
        measured(ModelPair(folder, folder, "bfloat16"), section, Client(), SILENT)


@pytest.mark.parametrize(
    ("name", "writes"),
    [
        *(("piqa", False), ("gsm8k", True), ("mmlu", False), ("truthfulqa", False)),
        *(("flores200", True), ("hubq_bbq", False)),
    ],
)
def test_definitions_say_which_tasks_write(name: str, writes: bool) -> None:
    assert harness_task(name).writes is writes
