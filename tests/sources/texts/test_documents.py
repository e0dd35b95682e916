"""The forms in which documents lie in a file, whole and damaged."""

import gzip
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from hubq.errors import UserError
from hubq.sources.texts import lines
from hubq.sources.texts.documents import Reading, documents

ROWS = [{"id": 1, "text": 'one, "two"\nthree'}, {"id": 2, "text": "née ⚘ 🦙"}]
TEXTS = [row["text"] for row in ROWS]


def zst(content: bytes, path: Path) -> None:
    with pyarrow.CompressedOutputStream(str(path), "zstd") as packed:
        packed.write(content)


def json_lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def separated(separator: str) -> bytes:
    quoted = ['"' + str(text).replace('"', '""') + '"' for text in TEXTS]
    cells = [f"{number}{separator}{text}" for number, text in enumerate(quoted)]
    return "\r\n".join([f"id{separator}text", *cells, ""]).encode()


FORMS = {
    "some.jsonl": json_lines(ROWS),
    "lines.json": json_lines(ROWS),
    "list.json": json.dumps(ROWS, indent=2).encode(),
    "list.jsonl": json.dumps(ROWS).encode(),
    "texts.json": json.dumps(TEXTS).encode(),
    "texts.jsonl": json_lines(list(TEXTS)),
    "some.csv": separated(","),
    "some.tsv": separated("\t"),
}


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("name", FORMS)
def test_documents_are_the_same_in_every_form(
    name: str, mark: bytes, packed: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}{packed}"
    content = mark + FORMS[name]
    if packed == ".zst":
        zst(content, path)
    else:
        path.write_bytes(gzip.compress(content) if packed else content)

    assert list(documents(path, None)) == TEXTS


def test_a_single_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(ROWS[0], indent=2))

    assert list(documents(tmp_path / "one.json", "text")) == TEXTS[:1]


def parquet(path: Path, **values: list[Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(values), path)
    return path


def jsonl(path: Path, **values: list[Any]) -> Path:
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    path.write_bytes(json_lines(rows))
    return path


MAKERS = [("some.parquet", parquet), ("some.jsonl", jsonl)]


@pytest.mark.parametrize(("name", "make"), MAKERS)
def test_a_nested_field_is_named_with_dots(
    name: str, make: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = [{"en": "house", "de": {"at": "Haus"}}, None, {"en": "dog", "de": {"at": "Hund"}}]
    path = make(tmp_path / name, translation=pairs)

    assert list(documents(path, "translation.en")) == ["house", "dog"]
    assert list(documents(path, "translation.de.at")) == ["Haus", "Hund"]


@pytest.mark.parametrize(("name", "make"), MAKERS)
def test_a_missing_nested_field_names_those_there_are(
    name: str, make: Callable[..., Path], tmp_path: Path
) -> None:
    path = make(tmp_path / name, id=[1], translation=[{"en": "house", "de": "Haus"}])

    with pytest.raises(
        UserError, match=r"no field en; it has id, translation\.en, translation\.de"
    ):
        list(documents(path, "en"))


@pytest.mark.parametrize(("name", "make"), MAKERS)
def test_a_name_with_dots_is_a_name_first(
    name: str, make: Callable[..., Path], tmp_path: Path
) -> None:
    path = make(tmp_path / name, **{"a.b": ["one"]})

    assert list(documents(path, "a.b")) == ["one"]


@pytest.mark.parametrize(("name", "make"), MAKERS)
def test_rows_without_text_are_left_out_and_counted(
    name: str, make: Callable[..., Path], tmp_path: Path
) -> None:
    reading = Reading()

    found = list(documents(make(tmp_path / name, text=[None, "a", None]), None, reading))

    assert found == ["a"]
    assert reading.note() == "; 2 rows without text left out"


def test_rows_that_lack_the_field_are_left_out_once_it_was_there(tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_bytes(json_lines([None, {"text": "a"}, {"other": "b"}]))
    reading = Reading()

    assert list(documents(tmp_path / "some.jsonl", None, reading)) == ["a"]
    assert reading.left_out == 2


def test_half_a_character_becomes_the_sign_for_it_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_bytes(rb'{"text": "a\ud83eb \ud83e\udd99"}')
    reading = Reading()

    assert list(documents(tmp_path / "some.jsonl", None, reading)) == ["a\ufffdb 🦙"]
    assert reading.note() == "; half characters in 1 documents read as U+FFFD"


@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.txt.zst"])
@pytest.mark.parametrize("line", [b"0" * 64, b'{"text": "0"}\n'])
def test_a_file_that_unpacks_to_too_much_is_refused(
    name: str, line: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST", 1 << 21)
    monkeypatch.setattr(lines, "LONGEST", 1 << 20)
    content, path = line * (1 << 18), tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(content))
    else:
        zst(content, path)

    with pytest.raises(UserError, match=r"(holds|a line of) more than"):
        list(documents(path, None))


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Cut, flip, repeat or mix a few pieces of a file."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        match draw.randrange(5):
            case 0:
                del changed[at:]
            case 1:
                changed[at : at + draw.randint(1, 8)] = draw.randbytes(draw.randint(0, 8))
            case 2:
                changed[at:at] = changed[draw.randrange(len(changed) + 1) :][:64]
            case 3:
                del changed[at : at + draw.randint(1, 64)]
            case _:
                changed[at:at] = draw.choice(
                    [b"\0", b'"', b"[", b"\\ud800", b"null", b"\r", b"\xff"]
                )
    return bytes(changed)


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["some.jsonl", "list.json", "some.csv", "some.parquet"])
def test_a_damaged_file_is_read_or_refused(name: str, packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}{packed}"
    if name == "some.parquet":
        parquet(path, id=[1, 2], text=TEXTS, pair=[{"a": "b"}, None])
        whole = path.read_bytes()
    elif packed == ".zst":
        zst(FORMS[name], path)
        whole = path.read_bytes()
    else:
        whole = gzip.compress(FORMS[name], mtime=0) if packed else FORMS[name]
    draw = random.Random(f"{name}{packed}")

    for _ in range(100):
        path.write_bytes(damaged(whole, draw))
        for field in (None, "pair.a"):
            try:
                for text in documents(path, field):
                    text.encode()
            except UserError:
                continue


def test_a_plain_text_is_read_without_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plain.txt"
    path.write_text("One.\nTwo.\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed

    assert list(lines.lines(path)) == ["One.\n", "Two.\n"]
