"""MME: the prompt, how yes and no are read, and the sums."""

from collections.abc import Callable
from typing import Any

import pytest

from hubq.errors import UserError
from hubq.sources.pictures.rows import Row
from hubq.stages.evaluate.picture_benchmark import Answered, Item, Number
from hubq.stages.evaluate.picture_tasks.mme import MME, SUMS, read

ROW: dict[str, Any] = {
    **{"question_id": "existence/1.jpg", "category": "existence", "answer": "Yes"},
    "question": "Is there a bus in this image? Please answer yes or no.",
}


def item(**changed: object) -> Item:
    return MME().item(Row("row 1", {**ROW, **changed}))


def test_the_prompt_asks_for_a_word_or_phrase_in_place_of_yes_or_no() -> None:
    assert item().prompt == (
        "Is there a bus in this image?\nAnswer the question using a single word or phrase."
    )


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        ("Yes", "yes"),
        ("yes.", "yes"),
        ("Y", "yes"),
        ("y.", "yes"),
        ("n", "no"),
        ("No, there is none", "no"),
        ("x", "other"),
        ("", "other"),
        ("Not", "no"),  # the first four letters contain no
        ("none", "no"),
        ("now", "no"),
        ("I know", "other"),  # not within the first four
        ("eyes", "yes"),
        ("It is yes", "other"),
        (" y e s", "other"),
        ("maybe", "other"),
    ],
)
def test_the_first_four_letters_decide(answer: str, meant: str) -> None:
    assert read(answer) == meant


def asked(
    say: Callable[[str, int], str], pictures: int = 1
) -> dict[tuple[str | None, str], Number]:
    """Answer two questions about each picture of each category."""
    units = []
    for category in (each for some in SUMS.values() for each in some):
        for number in range(pictures):
            key = {"category": category, "question_id": f"{category}/{number}"}
            both = [item(**key, answer=answer) for answer in ("Yes", "No")]
            units.append([Answered(each, say(each.right[0], number)) for each in both])
    return {(each.part, each.metric): each for each in MME().numbers(units)}


def test_who_always_says_yes_gets_500_and_200() -> None:
    found = asked(lambda right, number: "Yes")

    assert found[None, "perception"].value == 500
    assert found[None, "cognition"].value == 200
    assert found[None, "acc"].value == 0.5
    assert found[None, "acc+"].value == 0
    assert "to say yes to everything gives 500" in found[None, "perception"].remark
    assert "to say yes to everything gives 200" in found[None, "cognition"].remark


def test_who_is_always_right_gets_2000_and_800() -> None:
    found = asked(lambda right, number: right)

    assert found[None, "perception"].value == 2000
    assert found[None, "cognition"].value == 800
    assert found["OCR", "score"].value == 200


def test_garbage_gets_nothing() -> None:
    assert asked(lambda right, number: "#!")[None, "perception"].value == 0


def test_a_category_is_the_mean_over_its_pictures_of_acc_and_acc_plus() -> None:
    # Of two pictures one has both right (200), the other one (50).
    found = asked(lambda right, number: right if number == 0 else "No", pictures=2)

    assert found["color", "score"].items == (200, 50)
    assert found["color", "score"].value == 125
    assert found[None, "perception"].value == 1250
    assert found[None, "perception"].strata == (
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
        5,
        5,
        6,
        6,
        7,
        7,
        8,
        8,
        9,
        9,
    )
    assert found[None, "acc"].value == 0.75
    assert found[None, "acc+"].value == 0.5


def test_a_sum_is_left_out_where_a_category_is_not_there() -> None:
    units = [[Answered(item(answer=each), "Yes") for each in ("Yes", "No")]]

    assert [each.metric for each in MME().numbers(units)] == ["acc", "acc+", "score"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_picture_with_other_than_two_questions_is_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"existence/1.jpg has {count} question"):
        MME().check([[item()] * count])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answer": "Perhaps"}, "answer should be Yes or No, not 'Perhaps'"),
        ({"answer": True}, "answer should be a text, not True"),
        ({"category": "smell"}, "category should be one of MME's 14, not 'smell'"),
        ({"question_id": None}, "question_id should be a text or a whole number"),
    ],
)
def test_a_row_of_another_kind_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as raised:
        item(**changed)

    assert said in str(raised.value)
