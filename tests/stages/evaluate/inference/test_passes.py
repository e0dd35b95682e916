"""One forward pass for all tasks that read the same windows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hubq.stages.evaluate.distributions import hidden_states, text_windows
from hubq.stages.evaluate.inference import passes as module
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.measurements.divergence import DivergenceTask, divergence
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask, perplexity
from hubq.stages.evaluate.task import TextTask, keep_text

TEXT = "The llama went home. It was late, and the road was long. " * 12
LENGTH = 32


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "TOKENS_A_BATCH", 4 * LENGTH)
    return tiny_model("llama")


@pytest.fixture
def model(folder: Path) -> Any:
    return load(folder, device="cpu", dtype="float32").model


def perplexity_task(windows: int | None = 18) -> PerplexityTask:
    return PerplexityTask(
        dataset="text", version="1", text=keep_text(TEXT), length=LENGTH, windows=windows
    )


def hidden_task(windows: int = 10, text: str = TEXT) -> HiddenTask:
    return HiddenTask(dataset="text", text=keep_text(text), length=LENGTH, windows=windows)


def windows_seen(model: Any) -> list[int]:
    """Count the windows of each forward pass from now on."""
    seen: list[int] = []

    def note(module: Any, positional: Any, named: Any) -> None:
        seen.append(len(named["input_ids"]))

    model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    return seen


def all_states(passes: Passes, task: HiddenTask | PerplexityTask, windows: torch.Tensor) -> Any:
    with torch.inference_mode():
        return torch.cat([passed.states for passed in passes.over(task, windows)])


def test_what_two_tasks_read_passes_the_model_once(folder: Path, model: Any) -> None:
    tasks: tuple[PerplexityTask, HiddenTask] = (perplexity_task(), hidden_task())
    windows = text_windows(hidden_task(18), folder)
    seen, passes = windows_seen(model), Passes(model, folder, tasks)

    whole = all_states(passes, tasks[0], windows)
    first = all_states(passes, tasks[1], windows[:10])

    assert seen == [4, 4, 4, 4, 2]
    assert torch.equal(first, whole[:10])


def test_a_task_that_reads_on_passes_only_the_rest(folder: Path, model: Any) -> None:
    tasks = (hidden_task(8), perplexity_task())
    windows = text_windows(hidden_task(18), folder)
    expected = all_states(Passes(model, folder), tasks[1], windows)
    seen, passes = windows_seen(model), Passes(model, folder, tasks)

    all_states(passes, tasks[0], windows[:8])
    whole = all_states(passes, tasks[1], windows)

    assert seen == [4, 4, 4, 4, 2]
    assert torch.equal(whole, expected)


def test_another_text_has_states_of_its_own(folder: Path, model: Any) -> None:
    other = hidden_task(text=TEXT.upper())
    tasks: tuple[TextTask, ...] = (hidden_task(), other, hidden_task(), other)
    passes = Passes(model, folder, tasks)
    mine, theirs = text_windows(hidden_task(), folder), text_windows(other, folder)

    all_states(passes, hidden_task(), mine)
    found = all_states(passes, other, theirs)

    assert torch.equal(found, all_states(Passes(model, folder), other, theirs))


def test_nothing_is_kept_that_nobody_reads_again(folder: Path, model: Any) -> None:
    tasks = (perplexity_task(), hidden_task())
    passes = Passes(model, folder, tasks)
    windows = text_windows(hidden_task(18), folder)

    all_states(passes, tasks[0], windows)
    kept = sum(len(batch) for batches in passes._kept.values() for batch in batches)
    all_states(passes, tasks[1], windows[:10])

    assert kept == 12  # of 18, in batches of four: as many as hold the ten
    assert passes._kept == {}


def test_numbers_are_those_of_tasks_that_pass_alone(
    folder: Path, model: Any, tmp_path: Path
) -> None:
    states = tmp_path / "states.safetensors"
    exact = hidden_task().model_copy(update={"precision": "bfloat16"})
    hidden_states(Passes(load(folder, device="cpu", dtype="bfloat16").model, folder), exact, states)
    compared = DivergenceTask(
        **hidden_task().model_dump(exclude={"kind", "precision"}),
        beside="",
        precision="bfloat16",
        states=states,
        reference=folder,
    )
    tasks = (perplexity_task(), compared)
    alone = perplexity(Passes(model, folder), tasks[0]), divergence(Passes(model, folder), compared)
    seen, passes = windows_seen(model), Passes(model, folder, tasks)

    together = perplexity(passes, tasks[0]), divergence(passes, compared)

    assert together == alone
    assert seen == [4, 4, 4, 4, 2]
