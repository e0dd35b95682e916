"""Perplexity against its definition."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hubq.errors import UserError
from hubq.records.report import OVERFLOW
from hubq.sources.calibration_tokens import token_ids
from hubq.stages.evaluate.inference import passes
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.measurements import perplexity as module
from hubq.stages.evaluate.measurements.perplexity import (
    PerplexityTask,
    estimate,
    perplexity,
    window_losses,
)
from hubq.stages.evaluate.task import keep_text

TEXT = "The llama went home. It was late, and the road was long. " * 12


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama3.2")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load(folder, device="cpu", dtype="float32").model


def task(length: int = 32, windows: int | None = None) -> PerplexityTask:
    return PerplexityTask(
        dataset="text", version="1", text=keep_text(TEXT), length=length, windows=windows
    )


def test_it_is_the_exponential_of_the_mean_loss_of_windows_scored_alone(
    model: Any,
    folder: Path,
) -> None:
    windows = torch.tensor(token_ids(TEXT, folder))[: 21 * 32].view(21, 32)
    losses = [model(input_ids=one[None], labels=one[None]).loss.item() for one in windows]

    (score,) = perplexity(Passes(model, folder), task())

    assert score.samples == 21
    assert score.value == pytest.approx(math.exp(sum(losses) / 21), rel=1e-5)


def test_only_the_first_windows_are_scored_when_so_many_are_asked_for(
    model: Any,
    folder: Path,
) -> None:
    (score,) = perplexity(Passes(model, folder), task(windows=3))

    assert score.samples == 3
    assert score.protocol.startswith("the first 3 non-overlapping windows of 32 tokens")


@pytest.mark.parametrize(
    ("at_most", "samples", "which"), [(3, 3, "the first 3 "), (100, 21, "all 21 ")]
)
def test_at_most_so_many_windows_are_scored_where_papers_score_no_more(
    model: Any, folder: Path, at_most: int, samples: int, which: str
) -> None:
    capped = task().model_copy(update={"at_most": at_most})

    (score,) = perplexity(Passes(model, folder), capped)

    assert score.samples == samples
    assert score.protocol.startswith(which)


def test_neither_batches_nor_parts_of_the_vocabulary_change_it(
    model: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (at_once,) = perplexity(Passes(model, folder), task())
    monkeypatch.setattr(passes, "TOKENS_A_BATCH", 64)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 7 * 260)

    (in_parts,) = perplexity(Passes(model, folder), task())

    assert in_parts.value == pytest.approx(at_once.value, rel=1e-6)


def test_its_standard_error_is_that_of_the_mean_loss_times_itself() -> None:
    value, stderr = estimate([1.0, 2.0, 3.0])

    assert value == pytest.approx(math.exp(2))
    assert stderr == pytest.approx(math.exp(2) / math.sqrt(3))


def test_one_window_has_no_standard_error() -> None:
    assert estimate([1.0]) == (math.e, None)


def test_a_loss_beyond_what_exp_takes_is_a_perplexity_beyond_numbers() -> None:
    assert estimate([5000.0, 800.0]) == (OVERFLOW, None)


def test_too_few_tokens_say_how_many_windows_there_are(
    model: Any,
    folder: Path,
) -> None:
    with pytest.raises(UserError, match=r"has 684 tokens, which make 2 windows of 300, not 5"):
        perplexity(Passes(model, folder), task(length=300, windows=5))


def test_a_not_a_number_names_the_first_layer_that_computes_it(folder: Path) -> None:
    broken = load(folder, device="cpu", dtype="float32").model
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[0, 0] = math.nan

    with pytest.raises(
        UserError, match=r"first is in the output of model\.layers\.1\.mlp\.up_proj"
    ):
        window_losses(Passes(broken, folder), task(8), torch.zeros(1, 8, dtype=torch.int64))


def test_one_window_that_is_not_the_first_is_the_one_to_blame(
    tiny_model: Callable[[str], Path],
) -> None:
    folder = tiny_model("llama")  # its head is not its embeddings
    broken = load(folder, device="cpu", dtype="float32").model
    with torch.no_grad():
        broken.model.embed_tokens.weight[7] = math.nan
    windows = torch.zeros(3, 8, dtype=torch.int64)
    windows[1, 4] = 7

    with pytest.raises(UserError, match=r"first is in the output of model\.embed_tokens"):
        window_losses(Passes(broken, folder), task(8), windows)
