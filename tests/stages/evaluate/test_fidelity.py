"""Fidelity as a whole: fresh processes, states that are kept, a floor that is known once.

A worker takes seconds to start, so one comparison serves most tests here.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from progress_recorder import Recorder
from quantized_folder import Choice, write

from hubq.client.client import Client
from hubq.formats import format_named
from hubq.machine import meters
from hubq.machine.files import cache_folder
from hubq.records.recipe_evaluate import FidelitySection
from hubq.records.report import Fidelity
from hubq.sources.texts.corpus import Corpus
from hubq.stages.evaluate.fidelity import _floor, asked, fidelity
from hubq.stages.evaluate.measure import Machine, Pair
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.tensors import Grid

TEXT = Corpus("The llama went home. It was late, and the road was long.\n\n" * 10, "text", "1")
LENGTH = 32
BFLOAT16 = Machine("cpu", "bfloat16")


class Measured(NamedTuple):
    """What one comparison had and gave."""

    base: Path
    result: Path
    cache: Path
    fidelity: Fidelity
    progress: Recorder

    def again(self, **changes: Any) -> tuple[Fidelity, list[str]]:
        """Compare once more; return what came out, and the titles of what was done."""
        progress = Recorder()
        pair = Pair(self.result, self.base, BFLOAT16, Client(), progress)._replace(**changes)
        return compared(pair), progress.titles


def compared(pair: Pair) -> Fidelity:
    return fidelity(pair, asked(pair, TEXT, LENGTH, FidelitySection(windows=12)))


@pytest.fixture(scope="module")
def first(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Measured:
    root = tmp_path_factory.mktemp("fidelity")
    base, progress = tiny_model("llama3.2"), Recorder()
    choice = Choice(format_named("compressed-tensors"), Grid(bits=3, group_size=32))
    write(base, root / "result", choice)
    pair = Pair(root / "result", base, BFLOAT16, Client(), progress)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBQ_CACHE", str(root / "cache"))
        found = compared(pair)
    return Measured(base, root / "result", root / "cache", found, progress)


@pytest.fixture
def measured(first: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Measured:
    """Return the comparison with a copy of its cache, for a test to damage."""
    shutil.copytree(first.cache, tmp_path / "copy")
    monkeypatch.setenv("HUBQ_CACHE", str(tmp_path / "copy"))
    return first


def test_a_result_in_three_bits_is_further_away_than_the_floor(first: Measured) -> None:
    assert first.fidelity.floor is not None
    assert first.fidelity.floor.mean.high is not None
    assert 0 < first.fidelity.floor.mean.value < first.fidelity.result.mean.value


def test_the_floor_takes_no_more_than_five_windows(first: Measured) -> None:
    assert first.fidelity.result.tokens == 12 * (LENGTH - 1)
    assert first.fidelity.floor is not None
    assert first.fidelity.floor.tokens == 5 * (LENGTH - 1)


def test_the_protocol_says_how_far_from_what_over_which_windows(first: Measured) -> None:
    said = first.fidelity.protocol

    assert said.startswith("KL(base || result) in nats over the whole vocabulary")
    assert "bfloat16 logits, predicting the last 31 tokens of each of the first 12" in said
    assert said.endswith("the base in bfloat16 from itself in float32, the first 5 windows")


def test_one_process_keeps_the_bases_distributions_in_both_dtypes(first: Measured) -> None:
    assert first.progress.steps == first.progress.totals
    assert first.progress.titles == [
        "base: load",
        "base: distributions on text",
        "base: divergence on text",
        "base: distributions on text",
        "quantized: load",
        "quantized: divergence on text",
    ]


def test_a_second_comparison_measures_nothing(measured: Measured) -> None:
    again, done = measured.again()

    assert again == measured.fidelity
    assert done == []


def test_models_that_moved_are_known_by_their_content(measured: Measured, tmp_path: Path) -> None:
    base, result = tmp_path / "base", tmp_path / "result"
    shutil.copytree(measured.base, base)
    shutil.copytree(measured.result, result)

    again, done = measured.again(base=base, result=result)

    assert again == measured.fidelity
    assert done == []


# Two workers: some seconds.
def test_another_result_needs_the_base_only_where_its_states_are_gone(
    measured: Measured,
) -> None:
    for file in cache_folder("measurements").glob("*.safetensors"):
        file.unlink()

    again, done = measured.again(result=measured.base)

    assert done == [
        "base: load",
        "base: distributions on text",
        "quantized: load",
        "quantized: divergence on text",
    ]
    assert again.result.mean.value == 0
    assert again.floor == measured.fidelity.floor


def test_without_memory_for_float32_the_protocol_says_why_there_is_no_floor(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forget_floor()
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    monkeypatch.setattr(meters, "CGROUP", tmp_path)

    again, done = measured.again()

    assert again.floor is None
    assert again.protocol.endswith("the base in float32 needs 0.7 MB and 0.2 MB are free")
    assert again.result == measured.fidelity.result
    assert done == []


def forget_floor() -> None:
    """Delete the outcome with as few windows as the floor has."""
    outcomes = cache_folder("measurements").glob("*.json")
    (floor,) = [each for each in outcomes if f'"tokens": {5 * (LENGTH - 1)},' in each.read_text()]
    floor.unlink()


def test_a_base_in_float32_has_no_floor(measured: Measured) -> None:
    pair = Pair(measured.result, measured.base, Machine("cpu", "float32"), Client(), Recorder())
    hidden = HiddenTask(dataset="text", text="", length=LENGTH, windows=12)

    assert _floor(pair, hidden) == "that is the base in float32 itself"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_measures_as_a_cpu_does(measured: Measured) -> None:
    again, _ = measured.again(where=Machine("cuda", "bfloat16"))

    assert again.result.mean.value == pytest.approx(measured.fidelity.result.mean.value, rel=0.05)
