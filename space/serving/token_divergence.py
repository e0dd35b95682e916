"""Where an answer diverges from the base, and what the base thinks of each of its tokens."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Flag
from typing import Any, Literal, Self

from hubq.errors import UserError
from serving.generation import Generation
from serving.messages import (
    Alternative,
    Event,
    Finished,
    JsonRecord,
    Message,
    Model,
    Prompt,
    Request,
    Scores,
    Scoring,
    Token,
)

# In bfloat16 one token at a time and all at once give probabilities that differ by some percent:
# SmolLM2's own choices had down to 0.86 of the probability of what then seemed to be its choice.
SAME_CHOICE = 0.8


class Answer(JsonRecord):
    """A whole answer, with the token that ended it where the model ended it itself."""

    model: Model
    title: str
    messages: tuple[Message, ...]
    prompt: Prompt
    tokens: tuple[Token, ...]
    text: str
    ended: bool

    @classmethod
    def of(cls, request: Request, events: Iterable[Event]) -> Self:
        """Gather a request's events; raise UserError when they are no answer."""
        kept = list(events)
        prompts = [each for each in kept if isinstance(each, Prompt)]
        tokens = [each for each in kept if isinstance(each, Token)]
        finished = [each for each in kept if isinstance(each, Finished)]
        if not prompts or not finished or not (tokens or finished[0].end):
            raise UserError(f"{request.title} gave no answer that could be compared")
        end = finished[0].end
        return cls(
            model=request.model,
            title=request.title,
            messages=request.messages,
            prompt=prompts[0],
            tokens=(*tokens, end) if end else tuple(tokens),
            text="".join(each.text for each in tokens) + finished[0].rest,
            ended=end is not None,
        )


class FirstDifference(JsonRecord):
    """How far two answers are the same: so many tokens or, with other vocabularies, characters."""

    aligned: Literal["tokens", "text"]
    same: int
    differ: bool  # False: one is the start of the other only because it was cut, or they are equal


class ExaminedToken(JsonRecord):
    """A token of an answer with the base's eyes."""

    text: str
    ends: bool
    base: float  # probability
    own: float | None  # probability under the model that chose it; None where tokens differ
    rank: int  # 1: the base's own choice
    alternatives: tuple[Alternative, ...]  # the base's likeliest
    kl: float | None  # nats


class ExaminedAnswer(JsonRecord):
    """An answer token by token, and the first token at which it diverges from the base.

    That is None where it never does, or only by being cut.
    """

    title: str
    base: str  # what visitors are told of it
    aligned: Literal["tokens", "text"]
    tokens: tuple[ExaminedToken, ...]
    diverges_at: int | None


def first_difference(one: Answer, other: Answer) -> FirstDifference:
    """Compare two greedy answers, by token where their vocabularies are the same."""
    if one.prompt.vocabulary != other.prompt.vocabulary:
        same = _common(one.text, other.text)
        whole = (len(one.text), len(other.text))
        return FirstDifference(aligned="text", same=same, differ=_differ(same, whole, (one, other)))
    ids = [[token.id for token in each.tokens] for each in (one, other)]
    same = _common(*ids)
    whole = (len(ids[0]), len(ids[1]))
    return FirstDifference(aligned="tokens", same=same, differ=_differ(same, whole, (one, other)))


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many elements from the start are the same."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _differ(same: int, lengths: tuple[int, int], answers: tuple[Answer, Answer]) -> bool:
    """Tell whether they differ otherwise than by where they were cut."""
    if same < min(lengths):
        return True
    shorter = answers[lengths.index(min(lengths))]
    return lengths[0] != lengths[1] and shorter.ended


@dataclass(frozen=True)
class Base:
    """What answers are held against, and its own greedy answer where there is one."""

    model: Model
    title: str
    answer: Answer | None = None


def examine(
    generation: Generation[Any], base: Base, answer: Answer, stop: Flag | None = None
) -> Iterator[Event | ExaminedAnswer]:
    """Let the base score an answer; yield what comes meanwhile, and ExaminedAnswer as the last.

    By token the divergence of the model from the base is exact, since the base's whole
    distributions are kept for it. Where that can't be, the last event is Failed, or Finished after
    a stop. The answer diverges where it differs from the base's own or, without that, where the
    base clearly prefers another token.
    """
    with TemporaryDirectory(prefix="hubq-space-") as folder:
        kept = Path(folder) / "base.npy"
        order = _order(base.model, base.title, answer)
        ours = yield from _scores(generation, order.model_copy(update={"keep": kept}), stop)
        if ours is None:
            return
        theirs = None
        if ours.aligned == "tokens" and answer.model != base.model:
            order = _order(answer.model, answer.title, answer)
            theirs = yield from _scores(
                generation, order.model_copy(update={"against": kept}), stop
            )
            if theirs is None:
                return
        yield examined(answer, base, ours, theirs)


def _order(model: Model, title: str, answer: Answer) -> Scoring:
    return Scoring(
        model=model,
        title=title,
        messages=answer.messages,
        text=answer.text,
        vocabulary=answer.prompt.vocabulary,
        prompt=answer.prompt.ids,
        answer=tuple(token.id for token in answer.tokens),
    )


def _scores(
    generation: Generation[Any], order: Scoring, stop: Flag | None
) -> Generator[Event, None, Scores | None]:
    """Pass on what comes before the scores, and return these; None when there are none."""
    for event in generation.score(order, stop):
        if isinstance(event, Scores):
            return event
        yield event
    return None


def examined(answer: Answer, base: Base, ours: Scores, theirs: Scores | None) -> ExaminedAnswer:
    """Put together what the base says of an answer and what its own model said."""
    unknown = [None] * len(ours.tokens)
    by_token = ours.aligned == "tokens"
    chosen = [exp(each.logprob) for each in answer.tokens] if by_token else unknown
    kl = [each.kl for each in theirs.tokens] if theirs is not None else unknown
    seen = tuple(
        ExaminedToken(
            text=each.text,
            ends=each.ends,
            base=each.probability,
            own=own,
            rank=each.rank,
            alternatives=each.alternatives,
            kl=divergence,
        )
        for each, own, divergence in zip(ours.tokens, chosen, kl, strict=True)
    )
    return ExaminedAnswer(
        title=answer.title,
        base=base.title,
        aligned=ours.aligned,
        tokens=seen,
        diverges_at=_first(answer, base, seen),
    )


def _first(answer: Answer, base: Base, seen: Sequence[ExaminedToken]) -> int | None:
    """Return the token at which an answer diverges from the base."""
    if answer.model == base.model:
        return None
    if base.answer is None:
        return next((n for n, each in enumerate(seen) if _other_choice(each)), None)
    found = first_difference(answer, base.answer)
    if not found.differ:
        return None
    if found.aligned == "tokens":
        return found.same
    ends = accumulate(len(each.text) for each in seen)
    return next((n for n, end in enumerate(ends) if end > found.same), len(seen) - 1)


def _other_choice(token: ExaminedToken) -> bool:
    """Tell whether the base would have chosen another token, by more than its rounding."""
    return token.base < SAME_CHOICE * token.alternatives[0].probability
