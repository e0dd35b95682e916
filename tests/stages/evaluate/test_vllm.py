"""vLLM in an environment of its own, here a stand-in: asked, answering, missing and failing."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from lm_eval.api.instance import Instance
from pretend_vllm import pretend_vllm

from hubq.errors import UserError
from hubq.machine.engines import VLLM_PYTHON, vllm_python
from hubq.machine.progress import SILENT
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.stages.evaluate.against_base import named_tasks
from hubq.stages.evaluate.inference.generation import GenerationRequest, Prompt
from hubq.stages.evaluate.inference.vllm_engine import VllmWriter, sampling, vllm
from hubq.stages.evaluate.jobs import Job, Order
from hubq.stages.evaluate.lm_eval_model import LanguageModel, language_model
from hubq.stages.evaluate.measure import Machine, outcome_file
from hubq.stages.evaluate.measurements.choice import _writing, harness_task
from hubq.stages.evaluate.measurements.efficiency import EfficiencyTask
from hubq.stages.evaluate.task import Outcome
from hubq.stages.evaluate.worker import work

GREEDY = {"do_sample": False}


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the python of a stand-in, named as a user does, and a token that it mustn't get."""
    python = pretend_vllm(tmp_path / "vllm")
    monkeypatch.setenv(VLLM_PYTHON, str(python))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))  # hubq's, not vLLM's
    return python


@pytest.mark.usefixtures("python")
def test_prompts_go_out_and_tokens_come_back(folder: Path) -> None:
    with vllm(folder, dtype="bfloat16") as engine:
        found = engine.write([[5, 6], [9]], max_tokens=3)

    assert found.tokens == [[7, 8, 9], [10, 11, 12]]
    assert found.seconds == 0.375
    assert engine.version == "0.33.0"
    assert engine.process.poll() is not None  # it has ended


@pytest.mark.usefixtures("python")
def test_what_vllm_refuses_is_refused_with_its_words(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"(?s)engine: transformers.*no model that vLLM knows"),
        vllm(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (None, "HUBQ_VLLM_PYTHON is not set"),
        (sys.executable, "which has no vLLM"),
        ("/nowhere/python", "can't be run"),
    ],
)
def test_without_vllm_the_reason_is_said(
    python: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VLLM_PYTHON, raising=False)
    if python is not None:
        monkeypatch.setenv(VLLM_PYTHON, python)

    with pytest.raises(UserError, match=said):
        vllm_python()


@pytest.mark.usefixtures("python")
def test_texts_are_decoded_and_cut_here(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    begin = tokenizer("A", add_special_tokens=False)["input_ids"]
    wanted = GenerationRequest(4, [str(tokenizer.decode([begin[-1] + 3]))], GREEDY)

    with vllm(folder) as engine:
        (texts,) = VllmWriter(engine, tokenizer).write([Prompt(begin, 7)], wanted)

    assert [each.number for each in texts] == [7]
    assert texts[0].text == tokenizer.decode([begin[-1] + 1, begin[-1] + 2])


def test_a_request_is_translated_and_what_cant_be_is_refused() -> None:
    greedy = sampling(GenerationRequest(8, ["."], GREEDY))
    drawn = sampling(GenerationRequest(8, ["."], {"do_sample": True, "temperature": 0.7}))

    assert (greedy["temperature"], greedy["max_tokens"], greedy["stop"]) == (0.0, 8, ["."])
    assert drawn["temperature"] == 0.7
    with pytest.raises(UserError, match="no option num_beams"):
        sampling(GenerationRequest(8, [], {**GREEDY, "num_beams": 4}))


class Generating:
    """A task of lm-eval as far as it matters here."""

    OUTPUT_TYPE = "generate_until"


class Choosing:
    """Likewise, of choices."""

    OUTPUT_TYPE = "multiple_choice"


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return language_model(loaded.eval(), folder, SILENT, "a task")


@pytest.mark.usefixtures("python")
def test_a_task_that_asks_for_texts_gets_them_from_vllm(model: LanguageModel) -> None:
    task = harness_task("gsm8k").model_copy(update={"engine": "vllm"})
    asked = Instance("generate_until", {}, ("ABC", {"until": ["@"], "max_gen_toks": 2}), 0)
    last = model.tok_encode("ABC")[-1]

    with _writing(model, task, {"tasks": {"gsm8k": Generating()}}) as writer:
        found = model.generate_until([asked])

    assert found == [model.tokenizer.decode([last + 1, last + 2])]
    assert writer == "vLLM 0.33.0"


def test_choices_start_no_vllm(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VLLM_PYTHON, raising=False)
    task = harness_task("piqa").model_copy(update={"engine": "vllm"})

    with _writing(model, task, {"tasks": {"piqa": Choosing()}}):
        assert not isinstance(model.writer, VllmWriter)


def efficiency_task(**changes: object) -> EfficiencyTask:
    values = {"batch": 2, "prompt": 8, "output": 5, "repetitions": 2, "hardware": "", "beside": ""}
    return EfficiencyTask.model_validate(values | changes)


@pytest.mark.usefixtures("python")
def test_speed_is_measured_by_vllm_alone(folder: Path, tmp_path: Path) -> None:
    order = Order(task=efficiency_task(engine="vllm"), outcome=tmp_path / "outcome.json")

    work(Job(folder=folder, device="cpu", dtype="bfloat16", orders=(order,)), SILENT)

    found = Outcome.load(order.outcome)
    assert found.cost is not None
    assert (found.engine, found.loader) == ("vLLM 0.33.0, bfloat16", "vLLM")
    assert found.cost.weight_bytes == (folder / "model.safetensors").stat().st_size
    assert found.cost.memory_peak >= found.cost.memory_loaded > 0
    assert found.cost.first_token_seconds.value == 0.125
    assert found.cost.tokens_per_second.value == 16  # two rows, each with a token in 0.125 s


def test_what_transformers_measured_is_known_as_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, by_vllm = efficiency_task(), efficiency_task(engine="vllm")
    where = Machine("cpu", "bfloat16")
    known = before.model_dump(mode="json")
    known.pop("engine")
    monkeypatch.setattr(EfficiencyTask, "model_dump", lambda self, **options: dict(known))
    expected = outcome_file(folder, before, where)
    monkeypatch.undo()

    assert outcome_file(folder, before, where).name == expected.name
    assert outcome_file(folder, by_vllm, where).name != expected.name


def test_the_engine_of_a_section_is_that_of_its_tasks() -> None:
    section = EvaluateSection.model_validate({"tasks": ["piqa"], "engine": "vllm"})

    (task,) = named_tasks(section)

    assert task.model_dump()["engine"] == "vllm"
