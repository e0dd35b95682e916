"""What is adapted is measured beside the base and beside itself unadapted, each thing once.

The first test waits for the processes that measure: some seconds.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from made_adaptation import adapt_by_hand, adapting
from made_run import made_checkpoint, made_plan
from progress_recorder import Recorder
from quantized_folder import Choice, write

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.machine.device import VARIABLE
from hubq.records.adaptation import Adaptation
from hubq.records.adapted_report import AdaptedReport, load_report
from hubq.records.plan import Plan
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Measurement, Report
from hubq.sources.find import find
from hubq.stages.evaluate.evaluate import evaluate, evaluate_adapted, refuse_unmeasurable
from hubq.stages.evaluate.measure import file_digests
from hubq.tensors import Grid

TEXT = "The llama went home. It was late, and the road was long.\n\n" * 10
UP = {f"model.layers.{number}.mlp.up_proj": (128, 64) for number in range(2)}


class Evaluated(NamedTuple):
    """A run whose quantized model and whose adapter were measured."""

    run: Path
    report: Report
    adapted: AdaptedReport
    progress: Recorder  # of the second


@pytest.fixture(scope="module")
def evaluated(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Evaluated:
    root = tmp_path_factory.mktemp("evaluated")
    base, run = tiny_model("llama3.2"), root / "run"
    run.mkdir()
    write(base, run / "model", Choice(format_named("compressed-tensors"), Grid(4, group_size=32)))
    (root / "text.txt").write_text(TEXT)
    plan = adapting(made_plan(source=find(ModelSection(folder=base), Client()).identity))
    plan.recipe["model"] = {"folder": str(base)}
    plan.recipe["evaluate"] = {
        "perplexity": [{"dataset": {"file": str(root / "text.txt")}, "length": 32}],
        "efficiency": None,
    }
    checkpoint = made_checkpoint(file_digests(run / "model"))
    progress = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBQ_CACHE", str(root / "cache"))
        patch.setenv(VARIABLE, "bfloat16")
        report = evaluate(plan, checkpoint, run, Client())
        adapted = evaluate_adapted(report, adapt_by_hand(run, UP), run, Client(), progress)
    return Evaluated(run, report, adapted, progress)


def perplexity(measured: Report) -> Measurement:
    (found,) = (each for each in measured.measurements if each.metric == "perplexity")
    return found


def test_the_report_of_what_is_adapted_lies_in_its_own_run_folder(evaluated: Evaluated) -> None:
    saved = load_report(evaluated.run / "adapted" / "report.json")

    assert saved == evaluated.adapted
    assert saved.plan == Plan.load(evaluated.run / "adapted" / "plan.json")
    assert load_report(evaluated.run / "report.json") == evaluated.report


def test_three_models_are_measured_on_the_same_items(evaluated: Evaluated) -> None:
    quantized, adapted = perplexity(evaluated.report), perplexity(evaluated.adapted)
    (gained,) = evaluated.adapted.gained.measurements

    assert quantized.base == adapted.base
    assert (gained.base, gained.value) == (quantized.value, adapted.value)
    assert adapted.value not in (quantized.value, quantized.base)
    assert gained.paired
    assert evaluated.adapted.unadapted.measurements == evaluated.report.measurements


def test_the_divergence_of_what_is_adapted_is_from_the_16_bit_base(evaluated: Evaluated) -> None:
    before, after = evaluated.report.fidelity, evaluated.adapted.fidelity

    assert before is not None
    assert after is not None
    assert after.floor == before.floor
    assert after.result.mean.value > before.result.mean.value  # it is a random adapter
    assert evaluated.adapted.gained.fidelity is None


def test_only_the_adapted_model_is_measured_then(evaluated: Evaluated) -> None:
    assert evaluated.progress.totals
    assert all(title.startswith("adapted: ") for title in evaluated.progress.totals)


def test_what_an_adapter_takes_counts(evaluated: Evaluated) -> None:
    report, adapted = evaluated.report, evaluated.adapted

    assert adapted.loader == f"{report.loader}; the adapter by hubq"
    assert adapted.linear_bits == report.linear_bits + 0.5
    assert adapted.weight_bytes == report.weight_bytes + adapted.adaptation.weight_bytes


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("adapter/adapter_model.safetensors", "has changed since adapt wrote it"),
        ("model.safetensors", "has changed since adapt wrote it"),
        ("adapter/tokenizer.json", "was not written by adapt"),
    ],
)
def test_a_changed_model_is_not_measured(
    evaluated: Evaluated, tmp_path: Path, path: str, said: str
) -> None:
    run = Path(shutil.copytree(evaluated.run, tmp_path / "run"))
    file = run / "adapted" / "model" / path
    file.write_bytes(file.read_bytes() + b"0" if file.is_file() else b"0")
    adaptation = Adaptation.load(run / "adapted" / "adaptation.json")

    with pytest.raises(UserError, match=said):
        evaluate_adapted(evaluated.report, adaptation, run, Client())


def test_an_adapter_is_not_asked_of_vllm() -> None:
    plan = adapting(made_plan())
    plan.recipe["evaluate"] = {"engine": "vllm"}

    with pytest.raises(UserError, match=r"engine: vllm measures whole models.*merge: true"):
        refuse_unmeasurable(plan)
