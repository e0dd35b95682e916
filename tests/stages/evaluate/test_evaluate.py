"""The stage as a whole: fresh processes, remembered measurements, one report.

Each worker takes seconds to import torch, transformers and lm-eval, so one evaluation serves most
tests here.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import pytest
import torch
from made_questions import QUESTIONS, asked, put_rows
from made_run import made_checkpoint, made_plan
from quantized_folder import Choice, write
from safetensors.torch import load_file, save_file

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.machine.device import VARIABLE
from hubq.machine.files import alone_with, cache_folder
from hubq.machine.progress import Advance
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Measurement, Report
from hubq.sources.calibration_tokens import token_ids
from hubq.sources.find import find
from hubq.stages.evaluate.evaluate import QUANTIZE, _refuse_changed, evaluate
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.jobs import Job, Order
from hubq.stages.evaluate.measure import (
    Machine,
    _asks_a_hub,
    content_of,
    file_digests,
    machine,
    measure,
    outcome_file,
    worker_environment,
)
from hubq.stages.evaluate.measurements.choice import ChoiceTask, harness_task
from hubq.stages.evaluate.measurements.efficiency import EfficiencyTask
from hubq.stages.evaluate.measurements.load import LoadTask
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask, perplexity
from hubq.stages.evaluate.task import keep_text
from hubq.stages.evaluate.workers import Broken, _explained
from hubq.tensors import Grid

TEXT = "The llama went home. It was late, and the road was long.\n\n" * 10
CPU = Machine("cpu", "bfloat16")


class Recorder:
    """A Progress that remembers its tasks and their steps."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.steps: dict[str, int] = {}

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        self.totals[title], self.steps[title] = total, 0

        def advance(steps: int) -> None:
            self.steps[title] += steps

        yield advance


class Evaluation(NamedTuple):
    """What one run of the stage had and gave."""

    plan: Plan
    checkpoint: Checkpoint
    run: Path
    cache: Path
    base: Path
    twin: Path
    progress: Recorder
    report: Report

    def again(self, run: Path | None = None) -> Recorder:
        """Evaluate once more with the same cache; return what was done."""
        progress = Recorder()
        evaluate(self.plan, self.checkpoint, run or self.run, Client(), progress)
        return progress

    def one(self, metric: str) -> Measurement:
        (found,) = (each for each in self.report.measurements if each.metric == metric)
        return found


def put_questions(patch: pytest.MonkeyPatch) -> None:
    """Put a small OpenBookQA where its wheel would be unpacked; one row is malformed."""
    broken = {"question": "broken", "options": "A. one", "answer": "B. two"}
    put_rows("hubq_openbookqa", [*(asked(*each) for each in QUESTIONS), broken], patch)


@pytest.fixture(scope="module")
def evaluation(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    root = tmp_path_factory.mktemp("evaluation")
    base, run, cache = tiny_model("llama3.2"), root / "run", root / "cache"
    run.mkdir()
    choice = Choice(format_named("compressed-tensors"), Grid(bits=4, group_size=32))
    twin = write(base, run / "model", choice)
    (root / "text.txt").write_text(TEXT)
    plan = made_plan(source=find(ModelSection(folder=base), Client()).identity)
    section = {"dataset": {"file": str(root / "text.txt")}, "length": 32}
    plan.recipe["model"] = {"folder": str(base)}
    plan.recipe["evaluate"] = {
        "perplexity": [section],
        "tasks": ["hubq_openbookqa"],
        "seed": 5,
        "efficiency": {"prompt": 8, "output": 4, "repetitions": 1},
    }
    checkpoint = made_checkpoint(file_digests(run / "model"))
    progress = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBQ_CACHE", str(cache))
        patch.setenv(VARIABLE, CPU.dtype)
        put_questions(patch)
        report = evaluate(plan, checkpoint, run, Client(), progress)
    return Evaluation(plan, checkpoint, run, cache, base, twin, progress, report)


@pytest.fixture
def same_cache(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setenv("HUBQ_CACHE", str(evaluation.cache))
    monkeypatch.setenv(VARIABLE, CPU.dtype)
    put_questions(monkeypatch)


def test_the_report_is_saved(evaluation: Evaluation) -> None:
    assert Report.load(evaluation.run / "report.json") == evaluation.report


def test_the_base_is_measured_beside_the_result(evaluation: Evaluation) -> None:
    task = PerplexityTask(dataset="", version="", text=keep_text(TEXT), length=32, windows=None)
    expected = {
        folder: perplexity(
            Passes(load(folder, device="cpu", dtype="bfloat16").model, folder), task
        )[0]
        for folder in (evaluation.base, evaluation.twin)
    }

    found = evaluation.one("perplexity")

    assert found.base == pytest.approx(expected[evaluation.base].value, rel=1e-6)
    assert found.value == pytest.approx(expected[evaluation.twin].value, rel=1e-6)
    assert found.value != found.base


def test_an_accuracy_counts_the_questions_whose_likeliest_answer_is_right(
    evaluation: Evaluation,
) -> None:
    model = load(evaluation.base, device="cpu", dtype="bfloat16").model

    def likelihood(question: str, answer: str) -> float:
        before = token_ids(question, evaluation.base)
        ids = torch.tensor([before + token_ids(" " + answer, evaluation.base)])
        with torch.inference_mode():
            scores = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        each = scores.gather(1, ids[0, 1:, None])
        return float(each[len(before) - 1 :].sum())

    right = sum(
        max(choices, key=lambda choice, question=question: likelihood(question, choice))
        == choices[gold]
        for question, choices, gold in QUESTIONS
    )

    assert evaluation.one("acc").base == pytest.approx(right / 3)


def test_differences_come_from_pairs_of_the_same_items(evaluation: Evaluation) -> None:
    perplexity, accuracy = evaluation.one("perplexity"), evaluation.one("acc")

    assert perplexity.paired
    assert perplexity.difference is not None
    assert perplexity.difference.value == pytest.approx(perplexity.value - perplexity.base)
    assert perplexity.difference.low is not None
    assert accuracy.paired
    assert accuracy.difference is not None
    assert accuracy.difference.value == pytest.approx(accuracy.value - accuracy.base)
    assert accuracy.flips is not None
    assert accuracy.flips.won - accuracy.flips.lost == round(3 * accuracy.difference.value)
    assert accuracy.p_value == 1  # three questions prove nothing


def test_fidelity_is_measured_on_the_first_text(evaluation: Evaluation) -> None:
    fidelity = evaluation.report.fidelity

    assert fidelity is not None
    assert fidelity.dataset == "text.txt"
    assert fidelity.floor is not None
    assert 0 <= fidelity.floor.mean.value < fidelity.result.mean.value


def test_both_models_costs_are_measured(evaluation: Evaluation) -> None:
    efficiency = evaluation.report.efficiency

    assert efficiency is not None
    assert efficiency.base.weight_bytes > efficiency.result.weight_bytes
    assert efficiency.result.tokens_per_second.value > 0


@pytest.mark.usefixtures("same_cache")
def test_what_the_recipe_does_not_ask_for_is_not_measured(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    plan = evaluation.plan.model_copy(deep=True)
    plan.recipe["evaluate"] |= {"tasks": [], "fidelity": None, "efficiency": None}
    (tmp_path / "model").symlink_to(evaluation.run / "model")

    report = evaluate(plan, evaluation.checkpoint, tmp_path, Client())

    assert [each.metric for each in report.measurements] == ["perplexity"]
    assert (report.overall, report.fidelity, report.efficiency) == (None, None, None)


@pytest.mark.usefixtures("same_cache")
def test_a_recipe_says_in_which_dtype_both_are_measured(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    plan = evaluation.plan.model_copy(deep=True)
    plan.recipe["evaluate"] |= {"tasks": [], "efficiency": None, "dtype": "float32"}
    (tmp_path / "model").symlink_to(evaluation.run / "model")

    report = evaluate(plan, evaluation.checkpoint, tmp_path, Client())

    assert report.dtype == "float32"
    assert report.measurements[0].base != evaluation.one("perplexity").base
    assert report.fidelity is not None
    assert report.fidelity.floor is None
    assert "no floor, since that is the base in float32 itself" in report.fidelity.protocol


def test_the_report_says_what_guessing_gives(evaluation: Evaluation) -> None:
    assert evaluation.one("acc").chance == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    assert evaluation.one("perplexity").chance is None


def test_malformed_rows_are_counted_in_the_report(evaluation: Evaluation) -> None:
    found = evaluation.one("acc_norm")

    assert (found.samples, found.left_out) == (3, 1)


def test_the_report_names_what_a_reader_needs_to_repeat_it(evaluation: Evaluation) -> None:
    report = evaluation.report

    assert report.loader == "transformers"
    assert report.dtype == "bfloat16"
    assert report.seed == 5
    assert {"torch", "transformers", "lm-eval", "python"} <= set(report.versions)
    assert evaluation.one("perplexity").version.startswith("sha256:")
    assert evaluation.one("acc").version == f"1, lm-eval {report.versions['lm-eval']}"


def test_progress_tells_which_model_and_reaches_the_end(evaluation: Evaluation) -> None:
    progress = evaluation.progress

    assert list(progress.totals) == [
        "quantized: load",
        "quantized: 4 tokens after 8",
        "base: load",
        "base: 4 tokens after 8",
        "base: perplexity on text.txt",
        "base: distributions on text.txt",
        "base: divergence on text.txt",
        "base: hubq_openbookqa",
        "quantized: perplexity on text.txt",
        "quantized: divergence on text.txt",
        "quantized: hubq_openbookqa",
    ]
    assert progress.steps == progress.totals


@pytest.mark.usefixtures("same_cache")
def test_a_second_evaluation_measures_nothing(evaluation: Evaluation) -> None:
    before = (evaluation.run / "report.json").read_bytes()

    progress = evaluation.again()

    assert progress.totals == {}
    assert (evaluation.run / "report.json").read_bytes() == before


@pytest.mark.usefixtures("same_cache")
def test_what_another_process_measures_meanwhile_is_not_measured_again(
    evaluation: Evaluation,
) -> None:
    outcomes = cache_folder("measurements").glob("*.json")
    path = next(each for each in outcomes if "acc_norm" in each.read_text())
    outcome = path.read_bytes()
    path.unlink()
    waiting = Event()

    class Waiting(Recorder):
        @contextmanager
        def task(self, title: str, total: int) -> Iterator[Advance]:
            waiting.set()
            with super().task(title, total) as advance:
                yield advance

    progress = Waiting()
    arguments = (evaluation.plan, evaluation.checkpoint, evaluation.run, Client(), progress)
    later = Thread(target=evaluate, args=arguments)

    with ExitStack() as others:
        for folder in (evaluation.base, evaluation.run / "model"):
            lock = cache_folder("measurements") / content_of(folder)
            others.enter_context(alone_with(lock))
        later.start()
        assert waiting.wait(60)
        path.write_bytes(outcome)
    later.join()

    (title,) = progress.totals
    assert title.endswith("Waiting for another process that does the same")


# A worker starts: some seconds.
@pytest.mark.usefixtures("same_cache")
def test_an_interrupted_evaluation_resumes_at_the_task_that_is_missing(
    evaluation: Evaluation, capfd: pytest.CaptureFixture[str]
) -> None:
    outcomes = cache_folder("measurements").glob("*.json")
    next(path for path in outcomes if "acc_norm" in path.read_text()).unlink()

    progress = evaluation.again()

    assert [title.partition(": ")[2] for title in progress.totals] == ["load", "hubq_openbookqa"]
    assert capfd.readouterr() == ("", "")


# A worker starts: some seconds.
@pytest.mark.usefixtures("same_cache")
def test_a_side_that_was_measured_on_other_items_is_measured_again(
    evaluation: Evaluation,
) -> None:
    task = harness_task("hubq_openbookqa", seed=5)
    stale = outcome_file(evaluation.base, task, CPU)
    stale.write_text(stale.read_text().replace("lm-eval", "another lm-eval"))
    os.utime(stale, (0, 0))

    progress = evaluation.again()

    assert list(progress.totals) == ["base: load", "base: hubq_openbookqa"]
    assert "another" not in stale.read_text()


def test_a_folder_that_changed_since_it_was_quantized_is_not_measured(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    checkpoint = made_checkpoint({**evaluation.checkpoint.files, "config.json": "0" * 64})

    with pytest.raises(UserError, match=r"config\.json has changed since quantize wrote it"):
        evaluate(evaluation.plan, checkpoint, evaluation.run, Client())


def test_a_file_that_quantize_did_not_write_is_to_be_moved(evaluation: Evaluation) -> None:
    listed = {k: v for k, v in evaluation.checkpoint.files.items() if k != "config.json"}

    with pytest.raises(UserError, match=r"config\.json was not written by quantize.* Move it"):
        evaluate(evaluation.plan, made_checkpoint(listed), evaluation.run, Client())


def test_a_file_that_is_gone_since_it_was_quantized_is_missed(evaluation: Evaluation) -> None:
    checkpoint = made_checkpoint({**evaluation.checkpoint.files, "more.safetensors": "0" * 64})

    with pytest.raises(UserError, match=r"more\.safetensors is missing; run quantize"):
        evaluate(evaluation.plan, checkpoint, evaluation.run, Client())


def test_papers_of_the_license_are_no_file_that_is_gone(evaluation: Evaluation) -> None:
    (evaluation.run / "model" / "USE_POLICY.md").write_text("Be good.\n")
    checkpoint = made_checkpoint({**evaluation.checkpoint.files, "USE_POLICY.md": "0" * 64})

    _refuse_changed(evaluation.run / "model", checkpoint.files, QUANTIZE)


# A worker starts: some seconds.
def test_what_the_worker_refuses_reaches_the_user(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    with pytest.raises(UserError, match=r"missing keys: model\.norm\.weight"):
        measure(folder, (LoadTask(),), CPU, Client(), Recorder())


def order(name: str) -> Order:
    task = ChoiceTask(name=name, definition=None, limit=None, seed=0)
    return Order(task=task, outcome=Path("any.json"))


def test_a_worker_whose_data_is_here_is_offline() -> None:
    environment = worker_environment(_asks_a_hub([order("hubq_piqa")]), Client(token="hf_secret"))

    assert environment["HF_HUB_OFFLINE"] == environment["HF_DATASETS_OFFLINE"] == "1"
    assert "HF_TOKEN" not in environment
    assert "HF_DATASETS_OFFLINE" not in os.environ


def test_threads_wait_asleep_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert worker_environment(False, Client())["OMP_WAIT_POLICY"] == "PASSIVE"

    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")

    assert worker_environment(False, Client())["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_worker_whose_data_is_on_the_hub_asks_the_clients_hub() -> None:
    client = Client(endpoint="http://127.0.0.1:1", token="hf_secret")

    environment = worker_environment(_asks_a_hub([order("hubq_piqa"), order("piqa")]), client)

    assert environment["HF_ENDPOINT"] == "http://127.0.0.1:1"
    assert environment["HF_TOKEN"] == "hf_secret"
    assert "HF_HUB_OFFLINE" not in environment


def test_a_killed_worker_is_explained_as_too_little_memory() -> None:
    job = Job(folder=Path("some/model"), device="cpu", dtype="bfloat16", orders=())

    assert isinstance(_explained(Broken(-9, "log"), job), UserError)
    assert "on cpu ran out of memory" in str(_explained(Broken(-9, "log"), job))


def test_what_measures_without_enough_memory_names_what_takes_less() -> None:
    task = EfficiencyTask(batch=8, prompt=4, output=2, repetitions=1, hardware="", beside="")
    job = Job(
        folder=Path("some/model"),
        device="cpu",
        dtype="float32",
        orders=(Order(task=task, outcome=Path("any.json")),),
        shared=Path("shared"),
    )

    said = str(_explained(Broken(1, "MemoryError"), job))

    assert said == (
        "measuring some/model on cpu ran out of memory: the model is loaded whole here. Free "
        "memory, or use evaluate: {dtype: bfloat16}, which takes half, or OMP_NUM_THREADS=1, with "
        "which one process measures, or a smaller evaluate: {efficiency: {batch: ...}}, or a "
        "machine with more of it"
    )


def test_a_worker_that_fails_shows_the_end_of_its_log() -> None:
    job = Job(folder=Path("some/model"), device="cpu", dtype="bfloat16", orders=())

    error = _explained(Broken(1, "AssertionError: a bug"), job)

    assert isinstance(error, RuntimeError)
    assert str(error).endswith("AssertionError: a bug")


@pytest.mark.skipif(torch.cuda.is_available(), reason="only a CPU emulates float16")
def test_float16_models_run_in_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)

    assert machine("float16") == Machine("cpu", "float32")


def test_a_recipe_says_in_which_dtype_to_measure_before_the_environment_does() -> None:
    assert machine("bfloat16", "float16").dtype == "float16"
