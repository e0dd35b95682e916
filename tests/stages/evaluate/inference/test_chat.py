import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hubq_folder
import pytest
from PIL import Image
from tiny_vision import save_tiny_vision_model

from hubq.errors import UserError
from hubq.machine.device import compute_dtype
from hubq.sources.chat_template import with_places
from hubq.stages.evaluate.inference.chat import Speaker, answer, lay_out, pieces

TinyModel = Callable[[str], Path]
QUESTION = [{"role": "user", "content": "What is a llama?"}]


@pytest.fixture
def folder(tiny_model: TinyModel) -> Path:
    return tiny_model("llama")


def without_template(folder: Path, copy: Path) -> Path:
    shutil.copytree(folder, copy)
    (copy / "chat_template.jinja").unlink()
    return copy


def generated(folder: Path, text: str, most: int) -> str:
    """Continue a text with transformers' own greedy decoding."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype("cpu"))
    prompt = tokenizer(text, return_tensors="pt").input_ids
    whole = model.generate(prompt, max_new_tokens=most, do_sample=False)
    return str(tokenizer.decode(whole[0, prompt.shape[1] :], skip_special_tokens=True))


def test_an_answer_is_what_generate_gives_greedily(folder: Path) -> None:
    expected = generated(folder, "user: What is a llama?\nassistant: ", 12)

    told = "".join(answer(folder, QUESTION, 12))

    assert told == expected


def test_the_same_question_gets_the_same_answer(folder: Path) -> None:
    first = "".join(answer(folder, QUESTION, 8))

    assert "".join(answer(folder, QUESTION, 8)) == first


def test_a_folder_in_the_hubq_format_answers_as_its_dequantized_weights(
    folder: Path, tmp_path: Path
) -> None:
    twin = hubq_folder.write(folder, tmp_path / "packed", hubq_folder.round_all)

    told = "".join(answer(tmp_path / "packed", QUESTION, 8))

    assert told == "".join(answer(twin, QUESTION, 8))


def test_a_speaker_is_loaded_once_and_asked_twice(folder: Path) -> None:
    speaker = Speaker.load(folder)

    told = ["".join(speaker.answer(QUESTION, 8)) for _ in range(2)]

    assert told == ["".join(answer(folder, QUESTION, 8))] * 2


def test_without_a_chat_template_the_plain_text_is_completed(folder: Path, tmp_path: Path) -> None:
    plain = without_template(folder, tmp_path / "plain")
    expected = generated(plain, "What is a llama?", 8)

    told = "".join(answer(plain, QUESTION, 8))

    assert told == expected


def test_an_answer_ends_at_the_token_that_ends_it(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    copy = shutil.copytree(folder, tmp_path / "copy")
    tokenizer: Any = AutoTokenizer.from_pretrained(copy)
    model: Any = AutoModelForCausalLM.from_pretrained(copy, dtype=compute_dtype("cpu"))
    prompt = tokenizer("user: What is a llama?\nassistant: ", return_tensors="pt").input_ids
    first = int(model(prompt).logits[0, -1].argmax())
    settings = json.loads((copy / "generation_config.json").read_text())
    settings["eos_token_id"] = [257, first]
    (copy / "generation_config.json").write_text(json.dumps(settings))

    told = list(answer(copy, QUESTION, 8))

    assert told == []


def test_an_answer_tells_after_how_many_tokens_it_was_cut_off(folder: Path) -> None:
    cut = Speaker.load(folder).answer(QUESTION, 3)

    list(cut)

    assert cut.cut_at == 3


def test_an_answer_that_the_model_ended_was_not_cut_off(folder: Path) -> None:
    speaker = Speaker.load(folder)
    whole = speaker.answer(QUESTION, 3)
    prompt = lay_out(speaker.tokenizer, QUESTION)
    speaker.model.generation_config.eos_token_id = int(speaker.model(prompt).logits[0, -1].argmax())

    assert list(whole) == []
    assert whole.cut_at is None


def test_an_answer_is_no_longer_than_the_model_reaches(folder: Path) -> None:
    long = [{"role": "user", "content": "x" * 480}]  # of 512 positions, one a byte

    told = "".join(answer(folder, long, 1000))

    assert len(told.encode(errors="replace")) <= 3 * 32  # a broken byte shows as three


def test_a_prompt_that_is_too_long_is_refused(folder: Path) -> None:
    long = [{"role": "user", "content": "x" * 600}]

    with pytest.raises(UserError, match=r"the prompt has \d+ tokens; .* takes at most 511"):
        list(answer(folder, long, 8))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer"):
        list(answer(tmp_path, QUESTION))


def test_an_empty_prompt_is_refused(folder: Path, tmp_path: Path) -> None:
    plain = without_template(folder, tmp_path / "plain")

    with pytest.raises(UserError, match="the prompt is empty"):
        list(answer(plain, [{"role": "user", "content": ""}]))


def test_a_character_of_several_tokens_comes_whole() -> None:
    text = "né\nå!".encode()

    told = list(pieces(text, lambda ids: bytes(ids).decode(errors="replace")))

    assert told == ["n", "é", "\n", "å", "!"]


def test_a_character_that_never_ends_is_still_shown() -> None:
    told = list(pieces(b"n\xc3", lambda ids: bytes(ids).decode(errors="replace")))

    assert told == ["n", "\ufffd"]


def test_a_line_keeps_its_indent_where_decoding_drops_a_leading_space() -> None:
    words = ["a", ":\n", " ", " b"]

    told = "".join(pieces(range(4), lambda ids: "".join(words[i] for i in ids).removeprefix(" ")))

    assert told == "a:\n  b"


def test_transformers_speaks_again_after_an_answer(folder: Path) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity()

    list(answer(folder, QUESTION, 1))

    assert logging.get_verbosity() == before


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeing")
    save_tiny_vision_model("LlavaNextForConditionalGeneration", folder)
    return folder


def test_an_answer_about_a_picture_is_what_generate_gives_greedily(seeing: Path) -> None:
    speaker, picture = Speaker.load(seeing), Image.new("RGB", (50, 30), "red")
    inputs = speaker.inputs(QUESTION, [picture])
    written = speaker.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    expected = written[0, inputs["input_ids"].shape[1] :]

    told = "".join(speaker.answer(QUESTION, 8, [picture]))

    assert told == speaker.tokenizer.decode(expected, skip_special_tokens=True)
    assert told != "".join(speaker.answer(QUESTION, 8, [Image.new("RGB", (50, 30), "blue")]))


@pytest.mark.parametrize("old", [False, True], ids=["template of today", "of before 2025"])
def test_a_model_that_sees_answers_words_alone_too(old: bool, seeing: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(seeing, tmp_path / "copy")
    template = folder / "chat_template.jinja"
    if old:
        written = {"chat_template": template.read_text()}
        (folder / "chat_template.json").write_text(json.dumps(written))
        template.unlink()
    speaker = Speaker.load(folder)

    prompt = speaker.inputs(QUESTION)

    assert "pixel_values" not in prompt
    assert speaker.tokenizer.decode(prompt["input_ids"][0]).startswith("user: What is a llama?")


def test_pictures_stand_before_the_first_question() -> None:
    system = {"role": "system", "content": "Be brief."}

    told = with_places([system, *QUESTION, *QUESTION], 2)

    kinds = [[part["type"] for part in each["content"]] for each in told]
    assert kinds == [["text"], ["image", "image", "text"], ["text"]]


def test_a_picture_is_refused_by_a_model_that_reads_text_alone(folder: Path) -> None:
    speaker = Speaker.load(folder)

    with pytest.raises(UserError, match="reads text alone: ask it without a picture"):
        speaker.answer(QUESTION, 3, [Image.new("RGB", (9, 9))])
