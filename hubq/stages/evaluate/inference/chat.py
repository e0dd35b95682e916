"""Let a model answer: the quickest proof that what was published is a model at all.

Decoding is greedy, so the same folder gives the same answer. Each piece of text is there when it is
written, without a thread, and an error comes out where it happened. To a model that sees, pictures
can be given; they belong to the first question.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hubq.errors import UserError
from hubq.machine.device import best_device, compute_dtype
from hubq.machine.progress import quiet
from hubq.sources.chat_template import Message, laid_out, template_of, with_places
from hubq.sources.folder import refuse_adapter
from hubq.sources.processor import processor_of, seen
from hubq.sources.tokenizer import tokenizer_of
from hubq.sources.vision import cannot_see, sees
from hubq.stages.evaluate.inference.greedy_decoding import decoded
from hubq.stages.evaluate.inference.seeing import placed

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

UNFINISHED = "\ufffd"  # what decoding shows of a character whose last bytes are still to come
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Speaker:
    """A loaded model with its tokenizer; load it once and ask as often as you like."""

    folder: Path
    tokenizer: Any
    model: Any

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> Self:
        """Load a folder, on the GPU where there is one and no device is named.

        It is loaded in the dtype that this machine's best device is fast in: bfloat16 or, on many
        a CPU, float32. Raises UserError when it does not load as it should.
        """
        from hubq.stages.evaluate.inference.loading import load

        refuse_adapter(folder)
        place = device or str(best_device())
        with quiet():
            tokenizer = tokenizer_of(folder)
            model = load(folder, device=place, dtype=compute_dtype(place.partition(":")[0])).model
        return cls(folder, tokenizer, model)

    @cached_property
    def processor(self) -> Any:  # noqa: ANN401 - transformers carries no types
        """What makes tensors of pictures, loaded once there is one."""
        return processor_of(self.folder)

    def answer(
        self,
        messages: Sequence[Message],
        max_new_tokens: int = 256,
        pictures: "Sequence[Image]" = (),
    ) -> "Answer":
        """Begin an answer, which comes piece by piece.

        Messages have a role (user, assistant, system) and content. A tokenizer with a chat
        template lays them out; without one the model completes their plain text.
        """
        prompt = self.inputs(messages, pictures)
        room = room_behind(self.model, self.folder, prompt["input_ids"].shape[1])
        return Answer(self, prompt, min(max_new_tokens, room))

    def inputs(
        self, messages: Sequence[Message], pictures: "Sequence[Image]" = ()
    ) -> "dict[str, Tensor]":
        """Return what the model reads: `input_ids`, (1, tokens), and what it sees, on its device.

        Raises UserError for pictures where the model reads text alone.
        """
        is_blind = not sees(self.folder)
        if pictures and is_blind:
            raise UserError(cannot_see(str(self.folder)))
        # Repos of before 2025 have the template beside the processor, and none for the tokenizer.
        if not pictures and (is_blind or template_of(self.tokenizer) is not None):
            found = {"input_ids": lay_out(self.tokenizer, messages)}
        else:
            found = seen(self.processor, pictures, with_places(messages, len(pictures)))
            found.pop("attention_mask", None)  # of one row nothing is hidden
        return placed(self.model, found)


class Answer:
    """The pieces of an answer, to be gone through once; then it tells whether it was cut off."""

    def __init__(self, speaker: Speaker, prompt: "Mapping[str, Tensor]", most: int) -> None:
        self._speaker = speaker
        self._prompt = prompt
        self._most = most
        self._tokens = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the text as it comes."""
        tokenizer = self._speaker.tokenizer
        return pieces(self._counted(), lambda ids: tokenizer.decode(ids, skip_special_tokens=True))

    def _counted(self) -> Iterator[int]:
        for token in _greedy(self._speaker.model, self._prompt, self._most):
            self._tokens += 1
            yield token

    @property
    def cut_at(self) -> int | None:
        """The number of tokens after which it was cut off; None where the model ended it."""
        return self._tokens if self._tokens == self._most else None


def answer(
    folder: Path,
    messages: Sequence[Message],
    max_new_tokens: int = 256,
    pictures: "Sequence[Image]" = (),
) -> Iterator[str]:
    """Load a folder and yield its answer piece by piece: one question, one answer."""
    yield from Speaker.load(folder).answer(messages, max_new_tokens, pictures)


def lay_out(tokenizer: Any, messages: Sequence[Message]) -> "Tensor":  # noqa: ANN401
    """Lay the messages out as token ids, shape (1, tokens)."""
    if template_of(tokenizer) is None:
        text = "\n".join(message["content"] for message in messages)
        encoded = tokenizer(text, return_tensors="pt")
    else:
        text = laid_out(tokenizer, messages)  # with the special tokens that belong to it
        encoded = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    ids: Tensor = encoded["input_ids"]
    return ids


def room_behind(model: Any, folder: Path, taken: int) -> int:  # noqa: ANN401
    """Return how many tokens fit behind the prompt; raise UserError when none does."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if taken == 0:
        raise UserError("there is nothing to answer: the prompt is empty")
    if length is not None and taken >= length:
        raise UserError(
            f"the prompt has {taken} tokens; {folder} takes at most {length - 1}: shorten it"
        )
    return int(length) - taken if length is not None else 2**31


def _greedy(model: Any, prompt: "Mapping[str, Tensor]", most: int) -> Iterator[int]:  # noqa: ANN401
    """Yield the likeliest next token again and again, up to one that ends the answer."""
    ends = ends_of(model)
    for step in islice(decoded(model, **prompt), most):
        token = int(step)
        if token in ends:
            return
        yield token


def ends_of(model: Any) -> frozenset[int]:  # noqa: ANN401
    """Return the tokens that end an answer, as the model's own settings name them."""
    named = model.generation_config.eos_token_id
    if named is None:
        return frozenset()
    return frozenset(named if isinstance(named, list) else [named])


def pieces(tokens: Iterable[int], decode: Decode) -> Iterator[str]:
    """Decode tokens as they come; hold back what is not a whole character yet."""
    unfolding = Unfolding(decode)
    for token in tokens:
        if text := unfolding.take(token):
            yield text
    if text := unfolding.rest():
        yield text


class Unfolding:
    """Text from tokens that come one at a time.

    All tokens since the last line are decoded together, since the pieces of a word may decode
    otherwise alone; the token that ended that line goes along, since some tokenizers drop a space
    at the start of a text.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._line: list[int] = []
        self._shown = 0

    def take(self, token: int) -> str:
        """Return the text that a token completes; nothing while a character lacks bytes."""
        self._line.append(token)
        text = self._decode(self._line)
        if len(text) <= self._shown or text.endswith(UNFINISHED):
            return ""
        new, self._shown = text[self._shown :], len(text)
        if text.endswith("\n"):
            self._line, self._shown = [token], len(self._decode([token]))
        return new

    def rest(self) -> str:
        """Return what is left, a character that never ended, and start anew."""
        text = self._decode(self._line)[self._shown :]
        self._line, self._shown = [], 0
        return text
