"""Rows of a data set with pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_pictures import COLORS, ai2d_rows, parquet, png, with_pictures

from hubq.errors import UserError
from hubq.sources.pictures.rows import Row, pictures, rows


def written(folder: Path, name: str, content: list[dict[str, Any]] | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else parquet(content))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Ten rows in two files, of more pictures than are held at once."""
    found = with_pictures(ai2d_rows(10))
    return [
        written(tmp_path, "0.parquet", found[:9]),
        written(tmp_path, "1.parquet", found[9:]),
    ]


def test_rows_come_in_order_without_their_pictures(shards: list[Path]) -> None:
    found = rows(shards, ["question"])

    assert [row.values for row in found] == [{"question": f"Question {n}?"} for n in range(10)]
    assert found[9].where == "1.parquet, row 10"


def test_pictures_of_wanted_rows_come_in_their_order(shards: list[Path]) -> None:
    found = [(number, each.getpixel((0, 0))) for number, each in pictures(shards, {9, 2})]

    assert found == [(2, COLORS[2]), (9, COLORS[9 % 4])]


def test_files_behind_the_last_wanted_row_are_not_opened(shards: list[Path]) -> None:
    shards[1].unlink()

    assert [number for number, _ in pictures(shards, {1})] == [1]


def test_a_picture_may_be_its_bytes_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "0.parquet", [{"image": png(1)}])

    ((_, found),) = pictures([path], {0})

    assert found.getpixel((0, 0)) == COLORS[1]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"bytes": None, "path": "a.png"}, "0.parquet, row 1 holds no picture"),
        ({"bytes": b"", "path": None}, "0.parquet, row 1 "),
        ({"bytes": png()[:60], "path": None}, "0.parquet, row 1 is damaged"),
        ({"bytes": b"<svg/>", "path": None}, "0.parquet, row 1 is SVG"),
        ("picture.png", "0.parquet, row 1 holds no picture"),
        ([1, 2], "0.parquet, row 1 holds no picture"),
        (None, "0.parquet, row 1 holds no picture"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_row(
    image: object, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, "0.parquet", [{"image": image, "question": "?"}])

    with pytest.raises(UserError, match=said):
        list(pictures([path], {0}))


def test_a_missing_column_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, "0.parquet", [{"image": None, "query": "?"}])

    with pytest.raises(UserError, match=r"no column question and no answer; it has image, query"):
        rows([path], ["question", "answer"])


def test_data_without_pictures_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "0.parquet", [{"question": "?"}])

    with pytest.raises(UserError, match="has no column image"):
        rows([path], ["question"])


@pytest.mark.parametrize("content", [b"", b"PAR1 is no parquet file PAR1", b"\0" * 100])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, "0.parquet", content)

    with pytest.raises(UserError, match="cannot read the data set"):
        rows([path], ["question"])


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "0.jsonl", b"{}")

    with pytest.raises(UserError, match="pictures are read from parquet files"):
        rows([path], ["question"])


@pytest.mark.parametrize("nothing", [None, "nan", float("nan")])
def test_nothing_is_spelled_in_three_ways(nothing: object) -> None:
    assert Row("row 1", {"hint": nothing}).text("hint") is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hint": 3}, "row 1: hint should be a text, not 3; the data is not what the task"),
        ({"hint": b"a" * 100}, r"row 1: hint should be a text, not b'a+\.\.\.; "),
        ({"hint": "a" * 1_000_001}, "row 1: hint should be a text of at most 1,000,000"),
    ],
)
def test_a_value_of_another_kind_is_told_in_short(values: Mapping[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Row("row 1", values).text("hint")
