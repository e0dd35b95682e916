"""What of a task's data is asked."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from data_hub import COMMIT, data_hub
from made_pictures import COLORS, ai2d_rows, mme_rows, parquet, with_pictures
from PIL.Image import Image

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.stages.evaluate.picture_benchmark import HubData
from hubq.stages.evaluate.picture_questions import Questions, Wanted, commit_of, questions
from hubq.stages.evaluate.picture_tasks import benchmark_named

AT = Wanted(revision=COMMIT)
MMBENCH = [
    {
        **{"index": index, "question": "What?", "hint": "nan", "answer": answer},
        **{"A": "bus", "B": "train", "C": "nan", "D": "nan"},
        **{"category": "thing", "L2-category": f"ability {index % 2}"},
    }
    for index, answer in [(1, "A"), (2, "B"), (3, "A"), (1_000_002, "A"), (1_000_001, "B")]
]


@pytest.fixture(autouse=True)
def _hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what one test fetched from the others: all commits are the same here."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def asked(task: str, rows: Sequence[Mapping[str, Any]], wanted: Wanted = AT) -> Questions:
    """Read a task's questions from a Hub that has these rows."""
    benchmark = benchmark_named(task)
    assert isinstance(benchmark.data, HubData)
    name = f"{benchmark.data.subset or 'data'}/{benchmark.data.split}-00000-of-00001.parquet"
    with data_hub({name: parquet(with_pictures(rows))}) as (client, _):
        found = questions(benchmark, wanted, client)
        list(found.pictures(frozenset()))
    return found


def names(found: Questions) -> list[list[str]]:
    """Return the prompts of each unit, their first words."""
    return [[each.item.prompt.split("?")[0] for each in unit] for unit in found.units]


def test_a_data_set_is_read_at_a_commit() -> None:
    with data_hub({"data/test-00000-of-00001.parquet": parquet(with_pictures(ai2d_rows(3)))}) as (
        client,
        paths,
    ):
        data = benchmark_named("ai2d").data
        assert isinstance(data, HubData)
        found = questions(benchmark_named("ai2d"), Wanted(revision=commit_of(data, client)), client)

    assert len(found) == 3
    assert any(f"/datasets/lmms-lab/ai2d/resolve/{COMMIT}/data/test" in each for each in paths)


def test_each_question_goes_with_its_picture_to_the_model() -> None:
    found, seen = asked("ai2d", ai2d_rows(3)), []

    def answer(picture: Image, prompt: str) -> str:
        seen.append((picture.getpixel((0, 0)), prompt.split("?")[0]))
        return f" {prompt[9]}\n"

    steps: list[int] = []
    units = found.answered(answer, steps.append)

    assert seen == [(COLORS[number], f"Question {number}") for number in range(3)]
    assert [each.text for (each,) in units] == ["0", "1", "2"]  # without white space around it
    assert steps == [1, 1, 1]


def test_a_limit_takes_the_first_questions() -> None:
    found = asked("ai2d", ai2d_rows(5), AT._replace(limit=2))

    assert names(found) == [["Question 0"], ["Question 1"]]


def test_a_limit_of_mme_counts_pictures_of_each_category() -> None:
    found = asked("mme", mme_rows(3, ["OCR", "color"]), AT._replace(limit=2))

    groups = [{each.item.group for each in unit} for unit in found.units]
    assert groups == [
        *({"OCR: OCR/0.png"}, {"OCR: OCR/1.png"}),
        *({"color: color/0.png"}, {"color: color/1.png"}),
    ]
    assert [len(unit) for unit in found.units] == [2, 2, 2, 2]


def test_a_limit_of_mmbench_counts_questions_with_all_rotations() -> None:
    found = asked("mmbench_en_dev", MMBENCH, AT._replace(limit=2))

    assert [[each.item.name for each in unit] for unit in found.units] == [
        ["1", "1000001"],
        ["2", "1000002"],
    ]


def test_a_limit_of_chartqa_counts_for_people_and_machines() -> None:
    rows = [
        {"question": f"{number}?", "answer": "1", "type": kind}
        for kind in ("human_test", "augmented_test")
        for number in range(3)
    ]

    found = asked("chartqa", rows, AT._replace(limit=1))

    assert [unit[0].item.part for unit in found.units] == ["human", "augmented"]


def test_rows_without_question_or_answer_are_left_out_and_counted() -> None:
    rows = ai2d_rows(4)
    rows[1] |= {"question": None}
    rows[2] |= {"answer": None}

    found = asked("ai2d", rows)

    assert (names(found), found.left_out) == ([["Question 0"], ["Question 3"]], 2)


def test_what_belongs_to_a_left_out_row_is_left_out_with_it() -> None:
    rows = mme_rows(2, ["OCR"])
    rows[1] |= {"answer": None}

    found = asked("mme", rows)

    assert (len(found.units), found.left_out) == (1, 2)


def test_data_without_any_answer_is_refused() -> None:
    rows = [row | {"answer": None} for row in ai2d_rows(3)]
    rows[0]["options"] = ["a"]

    with pytest.raises(UserError, match=r"lmms-lab/ai2d \(test\) has no items: none of its 3 rows"):
        asked("ai2d", rows)


def test_mme_with_a_lone_question_is_refused() -> None:
    with pytest.raises(UserError, match="has 1 question, where each picture of MME has two"):
        asked("mme", mme_rows(2, ["OCR"])[:-1])


def test_mmbench_with_an_index_twice_is_refused() -> None:
    with pytest.raises(UserError, match="index 3 stands there twice"):
        asked("mmbench_en_dev", [*MMBENCH, MMBENCH[2]])


def test_a_hub_without_the_data_is_told() -> None:
    with (
        data_hub({"data/train-00000-of-00001.parquet": b""}) as (client, _),
        pytest.raises(UserError, match="lmms-lab/ai2d has no split test"),
    ):
        commit_of(HubData("lmms-lab/ai2d", "test"), client)


def drawn(name: str, **wanted: Any) -> Questions:
    return questions(benchmark_named(name), Wanted(**{"seed": 0, **wanted}), Client())


def shown(found: Questions) -> Iterator[tuple[int, bytes]]:
    wanted = frozenset(each.picture for unit in found.units for each in unit)
    yield from ((number, each.tobytes()) for number, each in found.pictures(wanted))


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("hubq_charts", 6),
        ("hubq_documents", 6),
        ("hubq_diagrams", 6),
        ("hubq_choices", 2 + 2 + 3 + 3 + 4 + 4),  # all rotations of two, three and four options
        ("hubq_yes_no", 12),
    ],
)
def test_a_drawn_task_asks_about_as_many_pictures_as_its_limit(name: str, items: int) -> None:
    found = drawn(name, limit=6)

    assert (len(found.units), len(found), found.left_out) == (6, items, 0)


@pytest.mark.parametrize("name", ["hubq_charts", "hubq_yes_no"])
def test_the_seed_decides_what_is_drawn(name: str) -> None:
    one, same, other = (drawn(name, limit=4, seed=seed) for seed in (1, 1, 2))

    assert (one.units, [*shown(one)]) == (same.units, [*shown(same)])
    assert [*shown(one)] != [*shown(other)]


@pytest.mark.parametrize(
    "name", ["hubq_charts", "hubq_documents", "hubq_diagrams", "hubq_choices", "hubq_yes_no"]
)
def test_who_knows_all_answers_is_right_in_every_drawn_item(name: str) -> None:
    found = drawn(name, limit=8)
    pictures = dict(shown(found))
    right = {
        (pictures[each.picture], each.item.prompt): each.item.right[0]
        for unit in found.units
        for each in unit
    }

    units = found.answered(
        lambda picture, prompt: right[picture.tobytes(), prompt], lambda steps: None
    )

    assert {
        each.value for each in benchmark_named(name).numbers(units) if each.metric != "score"
    } == {1.0}
