import json
import math
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_vision import save_tiny_vision_model

from hubq.errors import UserError
from hubq.stages.evaluate.inference.chat import answer
from serving.decoding import generate_answer, run_request
from serving.loaded_model import LoadedModel
from serving.messages import (
    Event,
    Failed,
    Finished,
    Message,
    Model,
    Prompt,
    Request,
    Settings,
    Statistics,
    Token,
)

TinyModel = Callable[[str], Path]
QUESTION = "What is a llama?"
CLEARLY = 1e-4  # of a probability; kernels that sum in another order part them by 1e-6 at most


@pytest.fixture(scope="session")
def folder(tiny_model: TinyModel) -> Path:
    return tiny_model("llama")


@pytest.fixture(scope="session")
def loaded(folder: Path) -> LoadedModel:
    return LoadedModel.load(folder)


def request(folder: Path, *turns: Message, **settings: Any) -> Request:
    return Request(
        model=Model(folder=folder),
        title="Left",
        messages=turns or (Message(role="user", content=QUESTION),),
        settings=Settings(**{"max_new_tokens": 12} | settings),
    )


def spoken(loaded: LoadedModel, *turns: Message, **settings: Any) -> list[Event]:
    asked = request(loaded.folder, *turns, **settings)
    return list(generate_answer(loaded, asked, most_input=400, stopped=lambda: False))


def tokens_of(events: list[Event]) -> list[int]:
    return [each.id for each in events if isinstance(each, Token)]


def test_an_answer_is_a_prompt_tokens_statistics_and_an_end(loaded: LoadedModel) -> None:
    kinds = [each.kind for each in spoken(loaded, max_new_tokens=3)]

    assert kinds[0] == "prompt"
    assert [kind for kind in kinds if kind == "token"] == ["token"] * 3
    assert kinds[-2:] == ["statistics", "finished"]


def test_an_answer_for_which_there_is_not_enough_memory_says_what_helps(
    loaded: LoadedModel,
) -> None:
    def wanting() -> bool:
        return bool(bytearray(1 << 60))

    *_, last = run_request(loaded, request(loaded.folder), 400, 100, wanting)

    assert last == Failed(
        text="there is not enough memory left for Left: ask for a shorter answer, or compare fewer "
        "models"
    )


def test_greedy_tokens_are_those_of_hubq_chat(loaded: LoadedModel) -> None:
    events = spoken(loaded)

    text = "".join(each.text for each in events if isinstance(each, Token))
    assert text + events[-1].rest == "".join(  # type: ignore[union-attr]
        answer(loaded.folder, [{"role": "user", "content": QUESTION}], 12)
    )


def test_a_picture_is_answered_as_by_hubq_chat(tmp_path: Path) -> None:
    save_tiny_vision_model("LlavaNextForConditionalGeneration", tmp_path)
    seen, file = Image.new("RGB", (50, 30), "red"), BytesIO()
    seen.save(file, "PNG")
    sent = b64encode(file.getvalue()).decode()

    events = spoken(
        LoadedModel.load(tmp_path), Message(role="user", content=QUESTION, picture=sent)
    )

    asked = [{"role": "user", "content": QUESTION}]
    text = "".join(each.text for each in events if isinstance(each, Token))
    rest = events[-1].rest  # type: ignore[union-attr]
    assert text + rest == "".join(answer(tmp_path, asked, 12, [seen]))
    assert text + rest != "".join(answer(tmp_path, asked, 12))


def test_equal_questions_get_equal_answers_to_the_last_bit(loaded: LoadedModel) -> None:
    answers = []
    for words in range(4):  # whatever the worker read in between, and wherever its memory lies
        answers.append([each for each in spoken(loaded) if isinstance(each, Token)])
        spoken(loaded, Message(role="user", content="other words " * words + "odd"))

    assert all(answer == answers[0] for answer in answers)


# Else rounding would decide what the tests of the page compare.
@pytest.mark.parametrize("run", ["Tiny-Llama-3bit", "Tiny-Llama-4bit"])
def test_the_page_is_tested_with_models_that_choose_clearly(
    runs: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_COMPUTE_DTYPE", "float32")  # as the Space of these tests

    events = spoken(LoadedModel.load(runs / run / "model"), max_new_tokens=200)

    likeliest = [each.alternatives[:2] for each in events if isinstance(each, Token)]
    assert len(likeliest) == 200
    assert all(b.probability < (1 - CLEARLY) * a.probability for a, b in likeliest)


def test_a_prompt_is_laid_out_as_the_repo_says(loaded: LoadedModel) -> None:
    system = Message(role="system", content="Be brief.")

    events = spoken(loaded, system, Message(role="user", content="Hi"))

    assert isinstance(events[0], Prompt)
    assert loaded.text(events[0].ids) == "system: Be brief.\nuser: Hi\nassistant: "


def test_a_token_knows_its_probability_and_its_rivals(loaded: LoadedModel) -> None:
    events = spoken(loaded, max_new_tokens=1)

    prompt, token = events[0], events[1]
    assert isinstance(prompt, Prompt)
    assert isinstance(token, Token)
    logits = loaded.model(torch.tensor([prompt.ids])).logits[0, -1].detach().float()
    assert math.exp(token.logprob) == pytest.approx(float(logits.softmax(-1).max()), abs=1e-4)
    assert token.alternatives[0].id == token.id
    assert [each.probability for each in token.alternatives] == sorted(
        (each.probability for each in token.alternatives), reverse=True
    )


def test_the_same_seed_gives_the_same_answer(loaded: LoadedModel) -> None:
    warm = {"temperature": 1.0, "top_p": 0.9, "top_k": 50, "seed": 7}

    assert tokens_of(spoken(loaded, **warm)) == tokens_of(spoken(loaded, **warm))


def test_another_seed_gives_another_answer(loaded: LoadedModel) -> None:
    warm = {"temperature": 1.0}

    assert tokens_of(spoken(loaded, **warm, seed=1)) != tokens_of(spoken(loaded, **warm, seed=2))


def test_the_likeliest_of_one_is_the_greedy_answer(loaded: LoadedModel) -> None:
    warm = {"temperature": 1.5, "top_k": 1, "seed": 3}

    assert tokens_of(spoken(loaded, **warm)) == tokens_of(spoken(loaded))


def test_sampling_follows_the_distribution(loaded: LoadedModel) -> None:
    first = spoken(loaded, max_new_tokens=1)[1]
    assert isinstance(first, Token)

    drawn = [
        tokens_of(spoken(loaded, max_new_tokens=1, temperature=1.0, top_k=3, seed=seed))[0]
        for seed in range(200)
    ]

    rivals = {each.id: each.probability for each in first.alternatives[:3]}
    assert set(drawn) == set(rivals)
    share = rivals[first.id] / sum(rivals.values())
    assert drawn.count(first.id) / 200 == pytest.approx(share, abs=0.12)


def test_a_penalty_keeps_greedy_answers_from_repeating(loaded: LoadedModel) -> None:
    plain = tokens_of(spoken(loaded, max_new_tokens=40))

    told = tokens_of(spoken(loaded, max_new_tokens=40, repetition_penalty=2.0))

    assert len(set(told)) > len(set(plain))


def test_a_long_prompt_is_read_in_pieces_with_the_same_outcome(loaded: LoadedModel) -> None:
    long = Message(role="user", content="abc " * 90)  # 360 tokens, in two pieces

    told = spoken(loaded, long, max_new_tokens=1)

    prompt, token = told[0], told[1]
    assert isinstance(prompt, Prompt)
    assert isinstance(token, Token)
    whole = loaded.model(torch.tensor([prompt.ids])).logits[0, -1].detach().log_softmax(-1)
    assert token.logprob == pytest.approx(float(whole[token.id]), abs=0.05)


def test_stop_ends_an_answer_between_two_tokens(loaded: LoadedModel) -> None:
    asked = request(loaded.folder, max_new_tokens=100)
    said: list[Event] = []

    for event in generate_answer(loaded, asked, 400, stopped=lambda: len(tokens_of(said)) == 2):
        said.append(event)

    assert len(tokens_of(said)) == 2
    assert said[-1] == Finished(reason="stopped", rest=said[-1].rest)  # type: ignore[union-attr]


def test_stop_before_the_first_token_ends_without_statistics(loaded: LoadedModel) -> None:
    told = list(generate_answer(loaded, request(loaded.folder), 400, stopped=lambda: True))

    assert [each.kind for each in told] == ["prompt", "finished"]


def test_the_token_that_ends_an_answer_is_told_with_its_probability(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    first = spoken(loaded, max_new_tokens=1)[1]
    assert isinstance(first, Token)
    copy = Path(shutil.copytree(loaded.folder, tmp_path / "copy"))
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": first.id}))

    told = spoken(LoadedModel.load(copy))

    assert tokens_of(told) == []
    last = told[-1]
    assert isinstance(last, Finished)
    assert last.reason == "end"
    assert last.end is not None
    assert (last.end.id, last.end.text) == (first.id, "")


def test_an_answer_that_is_long_enough_says_so(loaded: LoadedModel) -> None:
    last = spoken(loaded, max_new_tokens=2)[-1]

    assert isinstance(last, Finished)
    assert last.reason == "length"


def test_statistics_count_tokens_time_and_memory(loaded: LoadedModel) -> None:
    found = spoken(loaded, max_new_tokens=5)[-2]

    assert isinstance(found, Statistics)
    assert found.tokens == 5
    assert found.first_token > 0
    assert found.rate is not None
    assert found.rate > 0
    assert 10_000_000 < found.memory <= found.peak


def test_a_prompt_beyond_the_limit_is_refused_in_words(loaded: LoadedModel) -> None:
    long = request(loaded.folder, Message(role="user", content="x" * 401))

    with pytest.raises(UserError, match=r"have 419 tokens and at most 400 are read here"):
        list(generate_answer(loaded, long, most_input=400, stopped=lambda: False))


def test_messages_that_a_template_refuses_are_refused_in_words(
    folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "chat_template.jinja").write_text("{{ raise_exception('No system role, please') }}")

    with pytest.raises(UserError, match="its chat template says 'No system role, please'"):
        spoken(LoadedModel.load(copy))


def test_a_character_of_several_tokens_comes_with_its_last(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(loaded.tokenizer("é🦙!")["input_ids"])
    monkeypatch.setattr("serving.decoding._chooser", lambda *_: lambda *_: next(ids))

    told = [each.text for each in spoken(loaded, max_new_tokens=7) if isinstance(each, Token)]

    assert told == ["", "é", "", "", "", "🦙", "!"]


def test_a_character_that_never_ends_comes_at_the_end(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: Iterator[int] = iter(loaded.tokenizer("né")["input_ids"])
    monkeypatch.setattr("serving.decoding._chooser", lambda *_: lambda *_: next(ids))

    last = spoken(loaded, max_new_tokens=2)[-1]

    assert isinstance(last, Finished)
    assert last.rest == "\ufffd"
