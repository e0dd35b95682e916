"""Conversations to calibrate on: which are taken, how they are laid out, and what is refused."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from data_hub import COMMIT, data_hub
from tiny_models import save_tiny_model, tiny_tokenizer
from torch import Tensor

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.recipe_calibration import CalibrationSection
from hubq.sources.calibration_tokens import Tokens, tokens
from hubq.sources.instructions.conversations import require_conversations

ULTRACHAT = "data/train_sft-00000-of-00003-a3ecf92756993583.parquet"


@pytest.fixture
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


def said(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant") * len(contents)
    return [{"role": role, "content": each} for role, each in zip(roles, contents, strict=False)]


def talks(count: int) -> list[dict[str, Any]]:
    return [{"messages": said(f"Question {number:02d}?", "An answer.")} for number in range(count)]


def written(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def section(dataset: Mapping[str, Any] | str, **changes: Any) -> CalibrationSection:
    values = {"dataset": dataset, "samples": 2, "length": 60, **changes}
    return CalibrationSection.model_validate(values)


def texts(found: Tokens) -> list[str]:
    """Return what the windows say, each as far as it counts."""
    weights = found.weights
    assert isinstance(weights, Tensor)
    assert weights.shape == found.ids.shape
    assert set(weights.flatten().tolist()) <= {0.0, 1.0}
    return [
        str(tiny_tokenizer().decode(ids[weight > 0]))
        for ids, weight in zip(found.ids, weights, strict=True)
    ]


def test_each_conversation_is_a_window_laid_out_by_the_chat_template(
    folder: Path, tmp_path: Path
) -> None:
    rows = [
        {"id": 1, "talk": said("How are you?", "Well.", "And now?", "Better.")},
        {"id": 2, "talk": said("Count to three.", "1 2 3")},
    ]
    path = written(tmp_path, rows)

    found = tokens(section({"file": path, "messages": "talk"}), folder, Client())

    assert texts(found) == [
        "user: How are you?\nassistant: Well.\nuser: And now?\nassistant: Better.\n"[:60],
        "user: Count to three.\nassistant: 1 2 3\n",
    ]
    assert found.count == 60 + 39
    assert found.text.startswith("chats.jsonl, sha256:")
    assert "conversations in talk, by the chat template with sha256 " in found.text


def test_a_field_each_for_user_and_assistant_makes_a_conversation(
    folder: Path, tmp_path: Path
) -> None:
    path = written(tmp_path, [{"q": f"What is {n}?", "a": f"It is {n}."} for n in range(2)])

    found = tokens(section({"file": path, "user": "q", "assistant": "a"}), folder, Client())

    assert texts(found)[1] == "user: What is 1?\nassistant: It is 1.\n"


def test_the_first_of_each_stretch_is_taken_and_a_seed_draws_others(
    folder: Path, tmp_path: Path
) -> None:
    dataset = {"file": written(tmp_path, talks(20)), "messages": "messages"}

    found = {
        seed: [text[15:17] for text in texts(tokens(section(dataset, seed=seed), folder, Client()))]
        for seed in range(4)
    }

    assert found[0] == ["00", "10"]
    assert all(int(second) == int(first) + 10 for first, second in found.values())
    assert len({first for first, _ in found.values()}) > 1


def test_one_that_cannot_be_used_gives_its_place_to_what_follows(
    folder: Path, tmp_path: Path
) -> None:
    rows = talks(4)
    rows[0] = {"messages": said("Only a question?")}
    rows[2] = {"messages": said("1", "2")}  # 24 tokens of template
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0].content == 'Question 01?' %}{{ raise_exception('no') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    save_tiny_model("llama", tmp_path / "model", num_hidden_layers=1)
    (tmp_path / "model" / "chat_template.jinja").write_text(tokenizer.chat_template)
    path = written(tmp_path, [*rows, *talks(6)[4:]])

    found = tokens(
        section({"file": path, "messages": "messages"}, samples=3), tmp_path / "model", Client()
    )

    assert texts(found) == [f"Question 0{n}?An answer." for n in (3, 4, 5)]
    for reason in ("1 with no answer", "1 with fewer than 16 tokens", "1 with a conversation that"):
        assert reason in found.text


def test_ultrachat_is_read_by_its_name_from_one_file_of_its_train_split(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "some.parquet"
    columns = {"prompt": ["x"] * 6, "prompt_id": ["y"] * 6}
    talk = [row["messages"] for row in talks(6)]
    pyarrow.parquet.write_table(pyarrow.table({**columns, "messages": talk}), path)
    others = {name: b"PAR1" for name in (ULTRACHAT.replace("00000-of", "00001-of"), "README.md")}

    with data_hub({ULTRACHAT: path.read_bytes(), **others}) as (client, asked):
        require_conversations(section("ultrachat").parts[0][0], 2, client)
        planned = list(asked)
        found = tokens(section("ultrachat"), folder, client)

    assert len(planned) == 1, "one with a name is only looked up"
    assert [text[15:17] for text in texts(found)] == ["00", "03"]
    assert f"UltraChat 200k (train), HuggingFaceH4/ultrachat_200k@{COMMIT} (conv" in found.text
    assert not any("00001-of" in each for each in asked)


def test_windows_of_text_and_conversations_take_turns(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a llama " * 40)
    chats = {"file": written(tmp_path, talks(4)), "messages": "messages"}
    mixed = {"dataset": None, "datasets": [{"file": tmp_path / "text.txt"}, chats]}

    found = tokens(
        CalibrationSection.model_validate(mixed | {"samples": 4, "length": 50}), folder, Client()
    )

    assert [len(text) for text in texts(found)] == [50, 41, 50, 41]
    assert found.count == 182
    assert found.text.startswith("2 windows of text.txt, sha256:")
    assert "; 2 windows of chats.jsonl, sha256:" in found.text


def test_what_is_read_of_conversations_is_estimated_and_of_texts_known() -> None:
    mixed = {"dataset": None, "datasets": ["c4", "ultrachat"], "samples": 4}

    assert section("c4", samples=4, length=2048).tokens == 4 * 2048
    assert section("ultrachat", samples=4, length=2048).tokens == 4 * 1000
    assert section("ultrachat", samples=4, length=512).tokens == 4 * 512
    assert CalibrationSection.model_validate(mixed).tokens == 2 * 2048 + 2 * 1000


def test_a_text_has_windows_whose_tokens_all_count(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a llama " * 40)

    found = tokens(section({"file": tmp_path / "text.txt"}), folder, Client())

    assert found.weights is None
    assert found.count == 120


@pytest.mark.parametrize(
    ("rows", "changes", "sentence"),
    [
        (talks(1), {}, "1 usable conversations, and samples: 2 are asked for; use samples: 1"),
        ([{"messages": []}], {}, "0 usable .*1 with nothing in the row left out; name other data"),
        (
            [{"text": "one", "title": "t"}],
            {},
            "has no field messages; it has text, title",
        ),
        ([{"user": "one"}], {"messages": None, "user": "user", "assistant": "bot"}, "no field bot"),
        ([{"messages": [{"from": "human", "value": "x"}]}], {}, "1 with a field that is not text"),
    ],
)
def test_what_holds_too_few_conversations_is_refused_before_anything_is_computed(
    rows: list[Mapping[str, Any]], changes: Mapping[str, Any], sentence: str, tmp_path: Path
) -> None:
    data = {"file": written(tmp_path, rows), "messages": "messages", **changes}

    with pytest.raises(UserError, match=sentence):
        require_conversations(section(data).parts[0][0], 2, Client())


@pytest.mark.parametrize("name", ["chats.jsonl", "chats.parquet"])
def test_a_file_on_the_hub_without_messages_is_refused_by_its_beginning(
    name: str, tmp_path: Path
) -> None:
    written(tmp_path, [{"text": "one"}])
    data = section({"hub": "any/chats", "messages": "messages"}).parts[0][0]
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one"]}), tmp_path / "chats.parquet")

    with (
        data_hub({name: (tmp_path / name).read_bytes()}) as (client, _),
        pytest.raises(UserError, match="no field messages; it has text"),
    ):
        require_conversations(data, 2, client)


def test_fewer_than_asked_for_are_refused_when_a_hub_gives_them(
    folder: Path, tmp_path: Path
) -> None:
    content = written(tmp_path, talks(3)).read_bytes()

    with (
        data_hub({"chats.jsonl": content}) as (client, _),
        pytest.raises(UserError, match="3 usable conversations, and samples: 4 are asked for"),
    ):
        tokens(section({"hub": "any/chats", "messages": "messages"}, samples=4), folder, client)


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ({"file": "x.jsonl", "user": "q"}, "user and assistant name the two sides"),
        ({"file": "x.jsonl", "field": "f", "messages": "m"}, "field and messages contradict"),
        ({"name": "ultrachat", "messages": "m"}, "ultrachat sets messages itself"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    dataset: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        section(dataset)
