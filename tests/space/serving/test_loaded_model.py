import math
from collections.abc import Callable
from pathlib import Path

import hubq_folder
import pytest
import torch

from hubq.errors import UserError
from serving.loaded_model import LoadedModel, score
from serving.messages import Message, Model, Scoring

TinyModel = Callable[[str], Path]
PROMPT = tuple(b"What is a llama?")
ANSWER = tuple(b"A goat.")


@pytest.fixture(scope="session")
def base(tiny_model: TinyModel) -> LoadedModel:
    return LoadedModel.load(tiny_model("llama"))


@pytest.fixture(scope="session")
def side(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Give the same model at 3 bits."""
    folder = tmp_path_factory.mktemp("side") / "packed"
    hubq_folder.write(tiny_model("llama"), folder)
    return LoadedModel.load(folder)


def order(loaded: LoadedModel, **files: Path) -> Scoring:
    return Scoring(
        model=Model(folder=loaded.folder),
        title="Left",
        messages=(Message(role="user", content="Hi"),),
        text="né",
        vocabulary=loaded.vocabulary,
        prompt=PROMPT,
        answer=ANSWER,
        **files,
    )


def logprobs(loaded: LoadedModel) -> torch.Tensor:
    logits: torch.Tensor = loaded.model(torch.tensor([PROMPT + ANSWER])).logits[0].float()
    return logits.log_softmax(-1)[len(PROMPT) - 1 : -1].detach()


def test_a_token_is_scored_by_what_comes_before_it(base: LoadedModel) -> None:
    found = score(base, order(base), 500).tokens

    expected = logprobs(base)
    assert [each.probability for each in found] == pytest.approx(
        [math.exp(expected[position, token]) for position, token in enumerate(ANSWER)], rel=1e-3
    )


def test_the_rank_counts_the_tokens_that_are_likelier(base: LoadedModel) -> None:
    found = score(base, order(base), 500).tokens

    expected = logprobs(base)
    assert [each.rank for each in found] == [
        1 + int((expected[position] > expected[position, token]).sum())
        for position, token in enumerate(ANSWER)
    ]


def test_the_divergence_is_exact(base: LoadedModel, side: LoadedModel, tmp_path: Path) -> None:
    score(base, order(base, keep=tmp_path / "kept.npy"), 500)

    found = score(side, order(side, against=tmp_path / "kept.npy"), 500).tokens

    ours, theirs = logprobs(base), logprobs(side)
    expected = (ours.exp() * (ours - theirs)).sum(-1)
    assert [each.kl for each in found] == pytest.approx(expected.tolist(), rel=1e-3)


def test_a_model_does_not_diverge_from_itself(base: LoadedModel, tmp_path: Path) -> None:
    score(base, order(base, keep=tmp_path / "kept.npy"), 500)

    found = score(base, order(base, against=tmp_path / "kept.npy"), 500).tokens

    assert [each.kl for each in found] == pytest.approx([0] * len(ANSWER), abs=1e-6)


def test_another_vocabulary_is_scored_by_text_in_the_tokens_of_the_model(base: LoadedModel) -> None:
    found = score(base, order(base).model_copy(update={"vocabulary": "another"}), 500)

    assert found.aligned == "text"
    assert [each.text for each in found.tokens] == ["n", "", "é"]


def test_more_than_the_model_reaches_is_refused_in_words(base: LoadedModel) -> None:
    with pytest.raises(UserError, match="have 23 tokens, of which 20 can be scored"):
        score(base, order(base), most_tokens=20)


def test_an_empty_answer_has_no_scores(base: LoadedModel) -> None:
    empty = order(base).model_copy(update={"answer": ()})

    with pytest.raises(UserError, match="nothing to score"):
        score(base, empty, 500)
