"""ChartQA: the prompt, and relaxed accuracy."""

import pytest

from hubq.errors import UserError
from hubq.sources.pictures.rows import Row
from hubq.stages.evaluate.picture_benchmark import Answered
from hubq.stages.evaluate.picture_tasks.chartqa import ChartQA, relaxed

ROW = {"question": "How many?", "answer": "14", "type": "human_test"}


def test_the_prompt_asks_for_a_single_word() -> None:
    item = ChartQA().item(Row("row 1", ROW))

    assert item.prompt == "How many?\nAnswer the question with a single word."
    assert (item.right, item.part) == (("14",), "human")


@pytest.mark.parametrize(
    ("answer", "right", "counts"),
    [
        ("100", "100", True),
        ("105", "100", True),  # just 5 %
        ("95", "100", True),
        ("106", "100", False),
        ("94.9", "100", False),
        ("-100", "100", False),
        ("-96", "-100", True),
        ("12.", "12", True),  # a trailing full stop parses
        ("1,234", "1234", False),  # a comma does not
        ("1234", "1,234", False),
        ("1,234", "1,234", True),  # but is the same word
        ("50%", "50%", True),
        ("50%", "0.5", True),
        ("50%", "50", False),  # a sign on one side alone is a factor of 100
        ("50", "50%", False),
        ("0", "0", True),  # zero is compared as a word
        ("0.0", "0", False),
        ("0.01", "0", False),
        ("yes", "Yes", True),
        ("Yes.", "Yes", False),
        ("blue", "red", False),
        ("", "red", False),
        ("nan", "5", False),
        ("inf", "5", False),
        ("%", "5", False),
    ],
)
def test_numbers_have_five_percent_of_slack_and_words_none(
    answer: str, right: str, counts: bool
) -> None:
    assert relaxed(answer, right) is counts


def test_people_and_machines_have_scores_of_their_own() -> None:
    asked = [("human_test", "14"), ("augmented_test", "20"), ("augmented_test", "14")]
    units = [
        (Answered(ChartQA().item(Row("row", {**ROW, "type": kind})), said),) for kind, said in asked
    ]

    found = {each.part: (each.value, each.items) for each in ChartQA().numbers(units)}

    assert found == {
        None: (pytest.approx(2 / 3), (1.0, 0.0, 1.0)),
        "human": (1.0, (1.0,)),
        "augmented": (0.5, (0.0, 1.0)),
    }


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UserError, match="row 3: type should be human_test or augmented_test"):
        ChartQA().item(Row("row 3", {**ROW, "type": "robot_test"}))


def test_a_number_for_an_answer_is_refused() -> None:
    with pytest.raises(UserError, match="row 3: answer should be a text, not 14"):
        ChartQA().item(Row("row 3", {**ROW, "answer": 14}))
