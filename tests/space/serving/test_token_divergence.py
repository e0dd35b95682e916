from collections.abc import Callable, Iterator
from math import exp
from pathlib import Path

import pytest

from hubq.errors import UserError
from serving.generation import InProcessGeneration, Limits
from serving.machine import Memory
from serving.messages import (
    Alternative,
    Event,
    Failed,
    Finished,
    Message,
    Model,
    Prompt,
    Request,
    Scored,
    Scores,
    Settings,
    Token,
)
from serving.model_files import ModelFiles
from serving.token_divergence import (
    Answer,
    Base,
    ExaminedAnswer,
    FirstDifference,
    examine,
    examined,
    first_difference,
)

TinyModel = Callable[[str], Path]
BASE, SIDE = Model(repo="acme/base"), Model(repo="acme/side")


def answer(
    *texts: str, model: Model = SIDE, vocabulary: str = "bytes", end: bool = False
) -> Answer:
    """Make an answer whose tokens are texts, and whose ids are the texts' hashes."""
    tokens = [Token(id=hash(each), text=each, logprob=-0.5, alternatives=()) for each in texts]
    last = Token(id=257, text="", logprob=-0.1, alternatives=())
    return Answer(
        model=model,
        title="this model",
        messages=(Message(role="user", content="Hi"),),
        prompt=Prompt(ids=(1, 2), vocabulary=vocabulary),
        tokens=(*tokens, last) if end else tuple(tokens),
        text="".join(texts),
        ended=end,
    )


def scores(*shares: float, aligned: str = "tokens", kl: float | None = None) -> Scores:
    """Make the scores of tokens with these probabilities, where the best has 0.5."""
    best = (Alternative(id=1, text="y", probability=0.5),)
    tokens = tuple(
        Scored(
            id=2,
            text="x",
            probability=share,
            rank=1 if share >= 0.5 else 2,
            ends=False,
            alternatives=best,
            kl=kl,
        )
        for share in shares
    )
    return Scores.model_validate({"aligned": aligned, "tokens": tokens})


def test_equal_answers_do_not_diverge() -> None:
    assert first_difference(answer("a", "b"), answer("a", "b")) == FirstDifference(
        aligned="tokens", same=2, differ=False
    )


def test_answers_part_at_the_first_other_token() -> None:
    assert first_difference(answer("a", "b", "c"), answer("a", "x", "c")) == FirstDifference(
        aligned="tokens", same=1, differ=True
    )


def test_an_answer_that_was_cut_does_not_diverge() -> None:
    assert not first_difference(answer("a", "b"), answer("a", "b", "c")).differ


def test_an_answer_that_ends_earlier_parts_there() -> None:
    assert first_difference(answer("a", end=True), answer("a", "b", end=True)) == FirstDifference(
        aligned="tokens", same=1, differ=True
    )


def test_other_vocabularies_are_compared_by_text() -> None:
    assert first_difference(
        answer("ab", "c"), answer("a", "bx", vocabulary="words")
    ) == FirstDifference(aligned="text", same=2, differ=True)


def test_a_text_that_ends_where_the_other_goes_on_parts_there() -> None:
    assert first_difference(answer("ab", end=True), answer("abc", vocabulary="words")).differ


def test_an_answer_is_gathered_with_its_end() -> None:
    request = Request(model=SIDE, title="this model", messages=())
    end = Token(id=257, text="", logprob=-0.1, alternatives=())
    token = Token(id=3, text="x", logprob=-0.1, alternatives=())
    events: list[Event] = [
        Prompt(ids=(1,), vocabulary="bytes"),
        token,
        Finished(reason="end", end=end, rest="\ufffd"),
    ]

    found = Answer.of(request, events)

    assert (found.tokens, found.text, found.ended) == ((token, end), "x\ufffd", True)


def test_a_failed_request_is_no_answer() -> None:
    request = Request(model=SIDE, title="this model", messages=())

    with pytest.raises(UserError, match="this model gave no answer"):
        Answer.of(request, [Failed(text="no memory")])


def test_without_its_own_answer_the_base_parts_where_it_prefers_another_token() -> None:
    found = examined(answer("a", "b", "c"), Base(BASE, "the base"), scores(0.5, 0.45, 0.1), None)

    assert found.diverges_at == 2  # 0.45 against 0.5 is within what rounding does


def test_with_its_own_answer_the_base_parts_where_that_differs() -> None:
    own = answer("a", "x", model=BASE)

    found = examined(answer("a", "b"), Base(BASE, "the base", own), scores(0.5, 0.45), None)

    assert found.diverges_at == 1


def test_the_base_does_not_diverge_from_itself() -> None:
    own = answer("a", "b", model=BASE)

    assert examined(own, Base(BASE, "the base"), scores(0.5, 0.1), None).diverges_at is None


def test_a_token_has_the_probabilities_of_both() -> None:
    found = examined(answer("a"), Base(BASE, "the base"), scores(0.4), scores(0.6, kl=0.25))

    token = found.tokens[0]
    assert (token.base, token.own, token.kl) == (0.4, exp(-0.5), 0.25)


def test_by_text_a_divergence_is_in_the_token_with_the_first_other_character() -> None:
    own = answer("xx", "y", model=BASE, vocabulary="words")

    found = examined(
        answer("xxx"), Base(BASE, "the base", own), scores(0.5, 0.5, 0.1, aligned="text"), None
    )

    assert found.diverges_at == 2
    assert [each.own for each in found.tokens] == [None] * 3


@pytest.fixture(scope="module")
def generation() -> Iterator[InProcessGeneration]:
    made = InProcessGeneration(Limits(), Memory("machine", 10**10, lambda: 10**10), ModelFiles())
    yield made
    made.close()


def told(generation: InProcessGeneration, folder: Path) -> Answer:
    request = Request(
        model=Model(folder=folder),
        title="this model",
        messages=(Message(role="user", content="What is a llama?"),),
        settings=Settings(max_new_tokens=12),
    )
    return Answer.of(request, generation.generate(request))


def test_two_models_are_held_against_each_other(
    generation: InProcessGeneration, tiny_model: TinyModel
) -> None:
    base, side = (told(generation, tiny_model(name)) for name in ("llama", "mistral"))

    *_, found = examine(generation, Base(base.model, "the base", base), side)

    assert isinstance(found, ExaminedAnswer)
    assert found.aligned == "tokens"
    assert found.diverges_at == first_difference(side, base).same
    assert len(found.tokens) == len(side.tokens)
    assert all(each.kl is not None and each.kl > 0 for each in found.tokens)


def test_a_base_that_is_gone_fails_in_words(
    generation: InProcessGeneration, tiny_model: TinyModel, tmp_path: Path
) -> None:
    side = told(generation, tiny_model("llama"))

    *_, last = examine(generation, Base(Model(folder=tmp_path / "gone"), "the base"), side)

    assert isinstance(last, Failed)
