"""Drawn pictures: a seed's bytes, questions that only the picture answers, balanced answers."""

import hashlib
import json
from collections import Counter

import numpy
import pytest

from hubq.sources.pictures.drawn import DRAWN, Drawn
from hubq.sources.pictures.drawn.canvas import COLORS, SHAPES
from hubq.sources.pictures.drawn.documents import WORDS
from hubq.sources.pictures.drawn.drawn import LETTERS

# What the first 8 pictures of seed 0 are, with their questions: the same on every machine.
FINGERPRINTS = {
    "charts": "910e65fdf57903b7",
    "documents": "c2f0d1f3546caf84",
    "diagrams": "647dbcd87f352423",
    "choices": "fd0dd682b7f99e7f",
    "yes_no": "b3f18f04cb7d9286",
}


def content(drawn: Drawn) -> bytes:
    """Return all of what is drawn as bytes."""
    return drawn.picture.tobytes() + json.dumps(drawn[1:]).encode()


@pytest.fixture(params=sorted(DRAWN))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_machine_draws_the_same(kind: str) -> None:
    drawn = b"".join(map(content, DRAWN[kind](0, 8)))

    assert hashlib.sha256(drawn).hexdigest()[:16] == FINGERPRINTS[kind]


def test_a_picture_is_the_same_however_many_are_drawn(kind: str) -> None:
    few, many = list(DRAWN[kind](3, 4)), list(DRAWN[kind](3, 9))

    assert list(map(content, few)) == list(map(content, many[: len(few)]))


def test_no_picture_is_drawn_twice_by_seeds_of_training_and_test(kind: str) -> None:
    seen = [{each.picture.tobytes() for each in DRAWN[kind](seed, 100)} for seed in (0, 1)]

    assert [len(pictures) for pictures in seen] == [100, 100]
    assert not seen[0] & seen[1]


def test_a_picture_is_small_and_shows_more_than_its_ground(kind: str) -> None:
    for each in DRAWN[kind](0, 20):
        pixels = numpy.asarray(each.picture).reshape(-1, 3)

        assert (each.picture.mode, each.picture.size) == ("RGB", (56, 56))
        assert len(numpy.unique(pixels, axis=0)) > 2


def test_an_answer_is_among_the_options() -> None:
    for kind in ("diagrams", "choices"):
        for each in DRAWN[kind](0, 60):
            (letter,) = each.answers

            assert len({*each.options}) == len(each.options)
            assert letter in LETTERS[: len(each.options)]
            assert not each.group


def test_each_letter_is_right_equally_often() -> None:
    right = {
        kind: Counter((len(each.options), *each.answers) for each in DRAWN[kind](0, 144))
        for kind in ("diagrams", "choices")
    }

    assert set(right["diagrams"].values()) == {36}
    assert right["diagrams"].keys() == {(4, letter) for letter in LETTERS}
    assert {size: right["choices"][size, "A"] for size in (2, 3, 4)} == {2: 24, 3: 16, 4: 12}
    assert all(
        right["choices"][size, "A"] == count for (size, _), count in right["choices"].items()
    )


def test_each_value_of_a_chart_is_asked_for_equally_often() -> None:
    answers = Counter(each.answers[0] for each in DRAWN["charts"](0, 180))

    values = {answer: count for answer, count in answers.items() if answer.isdigit()}
    assert set(values.values()) == {10}
    assert len(values) == 9
    assert answers.keys() - values.keys() == COLORS.keys()


def test_a_bar_is_as_high_as_the_answer_says() -> None:
    for each in list(DRAWN["charts"](0, 40))[::2]:
        color = each.question.split()[-2]

        pixels = (numpy.asarray(each.picture) == COLORS[color]).all(-1)

        assert (pixels.sum(axis=1) >= 10).sum() == 5 * int(*each.answers)


def test_the_color_that_a_question_names_is_that_of_the_text() -> None:
    for each in list(DRAWN["documents"](0, 40))[2::4]:
        color = each.question.removesuffix("?").split()[-1]
        (answer,) = each.answers

        rows = (numpy.asarray(each.picture) == COLORS[color]).all(-1).any(1).sum()

        assert answer in WORDS
        assert 0 < rows <= 14  # one line, and no other


def test_a_caption_says_what_a_question_asks_for() -> None:
    for kind in DRAWN:
        for each in DRAWN[kind](0, 40):
            named = dict(zip(LETTERS, each.options, strict=False))
            (answer,) = (named.get(answer, answer) for answer in each.answers)
            if answer == "Yes" and "shapes" in each.question:
                told = each.caption.count(",") + 1
                assert f" {told} shapes" in each.question
            elif answer not in ("Yes", "No"):
                assert answer in each.caption.replace(",", "").split()


def test_of_two_questions_about_a_picture_one_is_true() -> None:
    drawn = list(DRAWN["yes_no"](0, 40))

    for one, other in zip(drawn[::2], drawn[1::2], strict=True):
        assert one.group == other.group
        assert one.picture.tobytes() == other.picture.tobytes()
        assert {*one.answers, *other.answers} == {"Yes", "No"}
    assert len({each.group for each in drawn}) == 40


def test_no_question_tells_its_answer() -> None:
    """To each question about pictures Yes is about as often right as No."""
    drawn = list(DRAWN["yes_no"](0, 1000))
    asked = Counter(each.question for each in drawn)
    yes = Counter(each.question for each in drawn if each.answers == ("Yes",))
    often = [question for question, count in asked.items() if count >= 40]

    shares = [yes[question] / asked[question] for question in often]

    assert len(often) >= len(SHAPES)
    assert all(0.3 < share < 0.7 for share in shares)


def test_a_color_asked_for_is_where_the_shape_is() -> None:
    for each in list(DRAWN["choices"](0, 40))[::2]:
        right = dict(zip(LETTERS, each.options, strict=False))[each.answers[0]]

        pixels = (numpy.asarray(each.picture) == COLORS[right]).all(-1)

        covered = [
            sum(covers(x, y) for x in range(-5, 6) for y in range(-5, 6))
            for covers in SHAPES.values()
        ]
        shape = each.question.removesuffix("?").split()[-1]
        assert pixels.sum() == covered[list(SHAPES).index(shape)]
