"""Pairs as tokens: layouts, lengths, labels, padding, and what is held out."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_tokenizer

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.recipe_adapt import Lessons
from hubq.sources.instructions import layouts, tokens
from hubq.sources.instructions.layouts import alpaca_prompt
from hubq.sources.instructions.tokens import UNLEARNT, Example, Examples, examples
from hubq.sources.tokenizer import tokenizer_of

BOS, EOS = 256, 257
ROWS = [{"instruction": f"Add 1 to {number}.", "output": f"{number + 1}"} for number in range(9)]
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nAdd.\n\n### Response: "
)
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response: "
)
TAGS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("*.safetensors")
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model", ignore=ignored))


def with_tokenizer(folder: Path, **changes: Any) -> None:
    """Give a folder another tokenizer: special tokens, a chat template, or None of them."""
    tokenizer = tiny_tokenizer()
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    for each in folder.glob("chat_template*"):
        each.unlink()
    tokenizer.save_pretrained(folder)


def taught(folder: Path, *rows: Mapping[str, Any], **options: Any) -> Examples:
    data = folder.parent / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lessons = Lessons.model_validate({"dataset": {"file": data}, "held_out": 0, **options})
    return examples(lessons, folder, Client())


def ids(text: str) -> list[int]:
    found: list[int] = tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]
    return found


def text_of(numbers: list[int]) -> str:
    return str(tiny_tokenizer().decode(numbers))


def said(*contents: str, system: str | None = None) -> dict[str, Any]:
    roles = ("user", "assistant") * len(contents)
    turns = [{"role": role, "content": each} for role, each in zip(roles, contents, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


def parts(example: Example) -> list[tuple[bool, str]]:
    """Return the stretches of an example, and whether each is learnt."""
    found: list[tuple[bool, list[int]]] = []
    for number, label in zip(example.ids, example.labels, strict=True):
        assert label in (number, UNLEARNT)
        learnt = label != UNLEARNT
        if not found or found[-1][0] != learnt:
            found.append((learnt, []))
        found[-1][1].append(number)
    return [(learnt, text_of(numbers)) for learnt, numbers in found]


@pytest.mark.parametrize(("context", "prompt"), [("", WITHOUT_INPUT), ("1, 2", WITH_INPUT)])
def test_alpaca_has_two_layouts_whose_answer_alone_is_learnt(
    context: str, prompt: str, folder: Path
) -> None:
    row = {"instruction": "Add.", "input": context, "output": "3"}

    found = taught(folder, row).train[0]

    assert parts(found) == [(False, f"<|begin|>{prompt}"), (True, "3<|end|>")]


def test_the_tokens_are_those_of_qlora(folder: Path) -> None:
    """As its collator makes them: texts with special tokens, truncated by the tokenizer."""
    rows = [*ROWS, {"instruction": "Count.", "input": "x" * 300, "output": "123 " * 50}]
    tokenizer = tokenizer_of(folder)
    cut = {"truncation": True, "add_special_tokens": False}
    expected = []
    for row in rows:
        prompt = alpaca_prompt(row["instruction"], row.get("input", ""))
        source = tokenizer(f"{tokenizer.bos_token}{prompt}", max_length=384, **cut)["input_ids"]
        answer = f"{row['output']}{tokenizer.eos_token}"
        target = tokenizer(answer, max_length=128, **cut)["input_ids"]
        expected.append(Example((*source, *target), (*[UNLEARNT] * len(source), *target)))

    found = taught(folder, *rows)

    assert found.train == tuple(expected)
    assert found.taught.cut == 1
    assert found.train[-1].ids[-1] != EOS


def test_what_was_taught_is_counted(folder: Path) -> None:
    found = taught(folder, *ROWS, held_out=4)

    assert (found.taught.pairs, found.taught.held_out, found.taught.left_out) == (5, 4, {})
    assert found.taught.tokens == sum(len(each.ids) for each in found.train)
    assert found.taught.answer_tokens == 5 * 2  # a digit and the end
    assert (found.taught.template, found.taught.title) == ("alpaca", "pairs.jsonl")


@pytest.mark.parametrize(
    ("source", "target", "cut", "lengths"),
    [(384, 128, 0, (214, 2)), (213, 128, 1, (213, 2)), (384, 1, 1, (214, 1)), (5, 1, 1, (5, 1))],
)
def test_prompt_and_answer_are_cut_each_to_its_length(
    source: int, target: int, cut: int, lengths: tuple[int, int], folder: Path
) -> None:
    row = {"instruction": "Add.", "input": "1, 2", "output": "3"}

    found = taught(folder, row, source_length=source, target_length=target)

    learnt = [label != UNLEARNT for label in found.train[0].labels]
    assert found.taught.cut == cut
    assert (learnt.count(False), learnt.count(True)) == lengths


def test_a_tokenizer_without_a_first_token_needs_none(folder: Path) -> None:
    with_tokenizer(folder, bos_token=None)

    found = taught(folder, {"instruction": "Add.", "output": "3"}).train[0]

    assert text_of(list(found.ids)).startswith("Below is")


def test_a_tokenizer_without_an_end_is_refused(folder: Path) -> None:
    with_tokenizer(folder, eos_token=None)

    with pytest.raises(UserError, match=r"without an end-of-text token.*name its eos_token"):
        taught(folder, *ROWS)


def test_a_tokenizer_without_a_token_to_pad_with_pads_with_the_end(folder: Path) -> None:
    assert taught(folder, *ROWS).pad == EOS


@pytest.mark.parametrize(
    ("added", "pad", "expected"),
    [
        ([], "!", 0),  # its own
        (["<|finetune_right_pad_id|>"], None, 258),  # the one that LLaMA 3 reserves
        (["[a]", "[b]", "[PAD]"], "[PAD]", EOS),  # 260, which the embeddings don't have
    ],
)
def test_the_pad_is_a_token_of_the_model(
    added: list[str], pad: str | None, expected: int, folder: Path
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(added, special_tokens=True)
    if pad is not None:
        tokenizer.pad_token = pad
    tokenizer.save_pretrained(folder)

    assert taught(folder, *ROWS).pad == expected


def test_tokens_that_the_model_has_not_are_refused(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["[a]", "[b]", "[c]"])
    tokenizer.save_pretrained(folder)

    with pytest.raises(UserError, match="gives the id 260, and embeddings of only 260 tokens"):
        taught(folder, {"instruction": "Say [c].", "output": "[c]"})


def test_an_answer_that_the_tokenizer_swallows_is_left_out(folder: Path) -> None:
    from tokenizers import normalizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    tokenizer.save_pretrained(folder)

    found = taught(folder, {"instruction": "Say nothing.", "output": "\u200b"}, *ROWS)

    assert found.taught.left_out == {tokens.NO_TOKENS: 1}
    assert len(found.train) == len(ROWS)


def test_data_of_which_nothing_can_be_learnt_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no usable pair .1 with more than a question and an answ"):
        taught(folder, said("Hi", "Hello", "Bye", "Bye"))


def test_a_plain_pair_is_a_text_and_what_follows_it(folder: Path) -> None:
    row = {"prompt": "The llama", "completion": " went home."}

    (example,) = taught(folder, row, template="plain").train

    answer = [*ids(" went home."), EOS]
    prompt = [BOS, *ids("The llama")]
    assert example == Example((*prompt, *answer), (*[UNLEARNT] * len(prompt), *answer))


def test_conversations_of_several_turns_are_no_exercise_of_alpaca(folder: Path) -> None:
    found = taught(folder, said("Hi", "Hello"), said("Hi", "Ho", "Bye", "Bye"), said("Hi", "So"))

    assert len(found.train) == 2
    assert found.taught.left_out == {layouts.NO_ROOM: 1}


# Over 1 s: this and the next start the process in which chat templates run, once for all of them.
def test_the_answers_of_a_conversation_are_learnt_and_nothing_before_them(folder: Path) -> None:
    with_tokenizer(folder, chat_template=TAGS)

    found = taught(folder, said("Hi", "Ho", "Bye", "So long", system="Be."), template="chat")

    assert parts(found.train[0]) == [
        (False, "<system>Be.<|end|><user>Hi<|end|><assistant>"),
        (True, "Ho<|end|>"),
        (False, "<user>Bye<|end|><assistant>"),
        (True, "So long<|end|>"),
    ]
    assert found.taught.cut == 0


def test_an_end_is_added_where_the_chat_template_writes_none(folder: Path) -> None:
    row = {"instruction": "Add.", "input": "1, 2", "output": "3"}

    found = taught(folder, row, template="chat")

    assert parts(found.train[0]) == [
        (False, "user: Add.\n\n1, 2\nassistant: "),
        (True, "3\n<|end|>"),
    ]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (384, 4, ["<user>Hi<|end|><assistant>", "Ho<|end|>", "<user>Bye<|end|><assistant>", "S"]),
        (384, 3, ["<user>Hi<|end|><assistant>", "Ho<|end|>"]),
        (23, 128, ["<user>Hi<|end|><assistant>", "Ho<|end|>", "<us", "So long<|end|>"]),
        (20, 128, ["<user>Hi<|end|><assistant>", "Ho<|end|>"]),
        (3, 128, ["<us", "Ho<|end|>"]),
    ],
)
def test_the_turns_of_a_conversation_share_its_lengths(
    source: int, target: int, expected: list[str], folder: Path
) -> None:
    with_tokenizer(folder, chat_template=TAGS)
    row = said("Hi", "Ho", "Bye", "So long")

    found = taught(folder, row, template="chat", source_length=source, target_length=target)

    assert [text for _, text in parts(found.train[0])] == expected
    assert found.taught.cut == 1


def test_a_model_without_a_chat_template_is_refused_with_the_way_out(folder: Path) -> None:
    with_tokenizer(folder, chat_template=None)

    with pytest.raises(UserError, match=r"has no chat template.*set `template: alpaca`"):
        taught(folder, *ROWS, template="chat")


def test_a_conversation_that_the_template_refuses_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TRIES", 2)
    with_tokenizer(
        folder,
        chat_template="{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        + TAGS,
    )

    refused = said("Hi", "Ho", system="Be.")
    found = taught(folder, refused, said("Hi", "Ho"), *[refused] * 3, template="chat")

    assert (len(found.train), found.taught.left_out) == (1, {layouts.REFUSED: 4})


def test_a_template_that_accepts_none_of_the_first_pairs_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TRIES", 2)
    with_tokenizer(folder, chat_template="{{ raise_exception('I never chat') }}")

    with pytest.raises(UserError, match="its chat template says 'I never chat'"):
        taught(folder, *ROWS, template="chat")
    with pytest.raises(UserError, match=r"no usable pair .2 with a conversation that the chat tem"):
        taught(folder, *ROWS[:2], template="chat")


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | length }}" + TAGS,  # changes what it wrote before
        "{{ messages[-1].content }}",  # drops it
        TAGS.replace("<assistant>{%", "<assistant><think>{%"),  # begins an answer otherwise
    ],
)
def test_a_template_that_does_not_go_on_from_its_prompt_is_told(
    template: str, folder: Path
) -> None:
    with_tokenizer(folder, chat_template=template)

    with pytest.raises(UserError, match="1 with a conversation whose beginning the chat template"):
        taught(folder, said("Hi", "Ho"), template="chat")


def test_a_template_that_tells_the_date_tells_always_the_same(folder: Path) -> None:
    dated = "{{ date_string | default(strftime_now('%d %b %Y')) }}" + TAGS
    with_tokenizer(folder, chat_template=dated)

    found = taught(folder, said("Hi", "Ho"), template="chat")

    assert parts(found.train[0])[0] == (False, "26 Jul 2024<user>Hi<|end|><assistant>")


def test_held_out_pairs_are_drawn_by_the_seed_and_never_trained_on(folder: Path) -> None:
    every = taught(folder, *ROWS).train
    found = taught(folder, *ROWS, held_out=3)
    again = taught(folder, *ROWS, held_out=3)
    other = taught(folder, *ROWS, held_out=3, seed=1)

    assert found == again
    assert set(found.held_out) != set(other.held_out)
    assert not set(found.train) & set(found.held_out)
    assert found.train == tuple(each for each in every if each not in found.held_out)
    assert len(found.held_out) == 3


def test_a_copy_of_a_held_out_pair_is_not_trained_on(folder: Path) -> None:
    found = taught(folder, *ROWS, *ROWS, *ROWS, held_out=5)

    assert len(set(found.held_out)) == 5
    assert not set(found.train) & set(found.held_out)
    assert len(found.train) == 3 * 4  # copies among what is trained on stay
    assert found.taught.left_out == {tokens.HELD_OUT: 5 * 2}


def test_pairs_that_differ_only_beyond_their_lengths_are_copies(folder: Path) -> None:
    rows = [{"instruction": "Count.", "output": f"11{number}"} for number in range(3)]

    found = taught(folder, *rows, *ROWS, held_out=9, target_length=2)

    assert not set(found.train) & set(found.held_out)


@pytest.mark.parametrize("held_out", [9, 10])
def test_one_pair_at_least_is_left_to_train_on(held_out: int, folder: Path) -> None:
    with pytest.raises(UserError, match=r"has 9 different usable pairs.*Set held_out to 8 or less"):
        taught(folder, *ROWS, *ROWS, held_out=held_out)

    assert len(taught(folder, *ROWS, held_out=8).train) == 1


def test_many_pairs_give_the_tokens_of_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = taught(folder, *ROWS).train
    monkeypatch.setattr(tokens, "AT_ONCE", 2)

    assert taught(folder, *ROWS).train == whole
