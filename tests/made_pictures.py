"""Small made-up data sets with pictures, in the columns of those on the Hub."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

COLORS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))


def png(number: int = 0) -> bytes:
    """Return a small picture in one colour."""
    content = io.BytesIO()
    Image.new("RGB", (32, 24), COLORS[number % len(COLORS)]).save(content, "PNG")
    return content.getvalue()


def with_pictures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give each row a picture as data sets hold it."""
    return [
        {"image": {"bytes": png(number), "path": None}, **row} for number, row in enumerate(rows)
    ]


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as a parquet file."""
    import pyarrow
    import pyarrow.parquet

    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), content)
    return content.getvalue()


def ai2d_rows(count: int) -> list[dict[str, Any]]:
    """Return questions whose right options are A, B, C, D, A ..."""
    return [
        {"question": f"Question {number}?", "options": list("wxyz"), "answer": str(number % 4)}
        for number in range(count)
    ]


def mme_rows(pictures: int, categories: Sequence[str]) -> list[dict[str, Any]]:
    """Return two questions about each picture of each category."""
    return [
        {
            "question_id": f"{category}/{number}.png",
            "question": f"Is it {answer}? Please answer yes or no.",
            "answer": answer,
            "category": category,
        }
        for category in categories
        for number in range(pictures)
        for answer in ("Yes", "No")
    ]
