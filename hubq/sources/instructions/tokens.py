"""Instruction pairs as tokens with labels: cut to their lengths, some of them held out.

They are those of QLoRA's code: a prompt begins with the tokenizer's first token (bos), where it
has one, an answer ends with its last (eos), the two are tokenized apart, so that no token is of
both, and each is cut at its end. So an answer that is cut has no eos: it doesn't end there. Only
answers have labels. The chat template writes the tokens of its own conversation; if it writes no
eos behind the last answer, that is added. The answers of one conversation share the length of an
answer, and what stands before them that of a prompt; it ends where either is used up.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import read_object
from hubq.records.adaptation import Taught
from hubq.records.recipe_adapt import Lessons
from hubq.sources.chat_template import ChatTemplateError, template_of
from hubq.sources.instructions.layouts import (
    PROMPTS,
    REFUSED,
    Exchange,
    Laid,
    alone,
    by_chat_template,
)
from hubq.sources.instructions.pairs import no_pair, pairs
from hubq.sources.instructions.rows import Pair
from hubq.sources.tokenizer import tokenizer_of

UNLEARNT = -100  # the label of a token that isn't predicted, as torch's cross-entropy ignores it
AT_ONCE = 1000  # pairs that are tokenized at a time
RESERVED = "<|finetune_right_pad_id|>"  # by which LLaMA 3.1 and later want to be padded

TRIES = 20  # pairs that a chat template may refuse before it has accepted one

NO_TOKENS = "a prompt or an answer without tokens"
HELD_OUT = "the same tokens as a held-out pair"
Turns = list[tuple[list[int], list[int]]]  # the ids of prompts and answers


class Example(NamedTuple):
    """A pair as tokens."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]  # of each its own id, or UNLEARNT; the caller shifts them


class Examples(NamedTuple):
    """What a model is taught, in the order of the data, and what is kept to measure it."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    taught: Taught
    pad: int  # the id of what fills shorter examples up, at their right


class Marks(NamedTuple):
    """The ids of a tokenizer's special tokens."""

    bos: int | None
    eos: int
    pad: int


def examples(lessons: Lessons, folder: Path, client: Client) -> Examples:
    """Read a data set's pairs as tokens of the model in `folder`.

    Raises UserError where no pair can be learnt from, too few are left to hold some out, or the
    model has no end-of-text token, or no chat template though pairs are to be laid out by it.
    """
    tokenizer = tokenizer_of(folder)
    vocabulary = read_object(folder / "config.json").get("vocab_size")
    marks = _marks(tokenizer, folder, vocabulary)
    layout = _layout(lessons, tokenizer, folder)
    found, reasons, about = pairs(lessons.dataset, client)
    left_out = Counter(reasons)
    turns = _tokenized(laid(found, layout, left_out), tokenizer, left_out)
    made = [_example(each, lessons, marks) for each in turns]
    if not made:
        raise no_pair(about.title, left_out)
    every = [example for example, _ in made]
    _require_rows(every, folder, vocabulary)
    train, held_out = _apart(every, lessons, about.title)
    if same := len(every) - len(train) - len(held_out):
        left_out[HELD_OUT] = same
    tokens = sum(len(example.ids) for example in train)
    taught = Taught(
        **about._asdict(),
        template=lessons.template,
        pairs=len(train),
        held_out=len(held_out),
        left_out=dict(left_out),
        cut=sum(was_cut for _, was_cut in made),
        tokens=tokens,
        answer_tokens=tokens - sum(example.labels.count(UNLEARNT) for example in train),
    )
    return Examples(tuple(train), tuple(held_out), taught, marks.pad)


def _marks(tokenizer: Any, folder: Path, vocabulary: object) -> Marks:  # noqa: ANN401 - see tokenizer.py
    """Return the special tokens; what pads has a row in the embeddings, and is never predicted."""
    eos = tokenizer.eos_token_id
    if eos is None:
        raise UserError(
            f"{folder} has a tokenizer without an end-of-text token, so the model could never "
            "learn where an answer ends; name its eos_token in tokenizer_config.json"
        )
    rows = vocabulary if isinstance(vocabulary, int) else len(tokenizer)
    usual = (tokenizer.pad_token_id, tokenizer.added_tokens_encoder.get(RESERVED))
    pad = next((each for each in usual if each is not None and each < rows), eos)
    return Marks(tokenizer.bos_token_id, eos, pad)


def _layout(
    lessons: Lessons,
    tokenizer: Any,  # noqa: ANN401 - see tokenizer.py
    folder: Path,
) -> Callable[[Pair], Laid]:
    """Return what lays pairs out; raise UserError for a chat template that isn't there."""
    if lessons.template in PROMPTS:
        return partial(alone, prompt=PROMPTS[lessons.template])
    if template_of(tokenizer) is None:
        raise UserError(
            f"{folder} has no chat template, as most base models; set `template: alpaca` in the "
            "recipe's section adapt, or begin with the model's instruct version"
        )
    return partial(by_chat_template, tokenizer=tokenizer)


def laid(
    found: Iterable[Pair], layout: Callable[[Pair], Laid], left_out: Counter[str]
) -> Iterator[list[Exchange]]:
    """Lay pairs out; raise ChatTemplateError where a template refuses all the first ones."""
    taken = False
    for pair in found:
        try:
            done = layout(pair)
        except ChatTemplateError:
            if not taken and left_out[REFUSED] == TRIES:
                raise
            done = REFUSED
        if isinstance(done, str):
            left_out[done] += 1
        else:
            taken = True
            yield done


def _tokenized(
    laid: Iterator[list[Exchange]],
    tokenizer: Any,  # noqa: ANN401 - see tokenizer.py
    left_out: Counter[str],
) -> Iterator[Turns]:
    """Yield the ids of exchanges, whose texts go to the tokenizer many at once."""
    while batch := list(islice(laid, AT_ONCE)):
        texts = [text for exchanges in batch for exchange in exchanges for text in exchange]
        encoded = tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        ids = iter(encoded["input_ids"])
        for exchanges in batch:
            turns = [(next(ids), next(ids)) for _ in exchanges]
            if turns[0][0] and all(answer for _, answer in turns):
                yield turns
            else:
                left_out[NO_TOKENS] += 1


def _example(turns: Turns, lessons: Lessons, marks: Marks) -> tuple[Example, bool]:
    """Join the turns of a conversation within the lengths, and tell whether it was cut."""
    (first, _), (_, last) = turns[0], turns[-1]
    if lessons.template in PROMPTS:
        first[:0] = [] if marks.bos is None else [marks.bos]
    if lessons.template in PROMPTS or marks.eos not in last:
        last.append(marks.eos)
    ids: list[int] = []
    labels: list[int] = []
    source, target = lessons.source_length, lessons.target_length  # what is left of them
    for prompt, answer in turns:
        if not source or not target:
            return Example(tuple(ids), tuple(labels)), True
        ids += prompt[:source] + answer[:target]
        labels += [UNLEARNT] * len(prompt[:source]) + answer[:target]
        if len(prompt) > source or len(answer) > target:
            return Example(tuple(ids), tuple(labels)), True
        source, target = source - len(prompt), target - len(answer)
    return Example(tuple(ids), tuple(labels)), False


def _require_rows(every: Sequence[Example], folder: Path, vocabulary: object) -> None:
    """Raise UserError where the tokenizer gives ids for which the model has no embeddings."""
    greatest = max(max(example.ids) for example in every)
    if isinstance(vocabulary, int) and greatest >= vocabulary:
        raise UserError(
            f"{folder} has a tokenizer that gives the id {greatest}, and embeddings of only "
            f"{vocabulary} tokens; put the tokenizer of this very model into a copy of it"
        )


def _apart(
    every: Sequence[Example], lessons: Lessons, title: str
) -> tuple[list[Example], list[Example]]:
    """Return what is trained on, and what is held out: drawn among different examples."""
    different = list(dict.fromkeys(every))
    if lessons.held_out >= len(different):
        raise UserError(
            f"adapt.held_out: {title} has {len(different):,} different usable pairs, of which "
            f"{lessons.held_out:,} can't be held out: one at least is to be trained on. Set "
            f"held_out to {len(different) - 1:,} or less, or name more data"
        )
    held_out = random.Random(lessons.seed).sample(different, lessons.held_out)
    apart = set(held_out)
    return [example for example in every if example not in apart], held_out
