"""Let a loaded model answer, token by token, with what it thought of each.

The loop is written out, so that it stops between two tokens, knows every distribution and needs no
thread. A long prompt is read piece by piece, since nobody can stop inside a forward pass; with a
picture it is read at once, since a model has to meet all of a picture's tokens together.
"""

from base64 import b64decode
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.machine.meters import held, peak, reset_peaks
from hubq.machine.shortages import is_out_of_memory
from hubq.sources.pictures.reading import picture
from hubq.stages.evaluate.inference.chat import Unfolding, room_behind
from serving.loaded_model import LoadedModel, score
from serving.messages import (
    PICTURE_TOKENS,
    Event,
    Failed,
    Finished,
    Order,
    Prompt,
    Request,
    Settings,
    Statistics,
    Token,
    in_words,
)

PIECE = 256  # tokens of the prompt in one forward pass
EVERY = 1.0  # seconds between two statistics

Stopped = Callable[[], bool]


def generate_answer(
    model: LoadedModel, request: Request, most_input: int, stopped: Stopped
) -> Iterator[Event]:
    """Yield the prompt, the tokens, statistics now and then, and why it is over.

    Raises UserError for messages that are too long or that the model's template refuses.
    """
    prompt = _prompt(model, request)
    room = _room(
        model, prompt["input_ids"].shape[1], most_input + PICTURE_TOKENS * len(request.pictures)
    )
    ids = tuple(prompt["input_ids"][0].tolist())
    yield Prompt(ids=ids, vocabulary=model.vocabulary)
    answer = Answer(model, prompt, request.settings)
    told = 0.0
    for _ in range(min(request.settings.max_new_tokens, room)):
        token = answer.step(stopped)
        if token is None or token.id in model.ends:
            break
        yield token
        if perf_counter() - told > EVERY:
            yield answer.statistics()
            told = perf_counter()
    else:
        token = answer.last
    if answer.last is not None:
        yield answer.statistics()
    yield answer.finish(token)


def _prompt(model: LoadedModel, request: Request) -> dict[str, Tensor]:
    """Return what the model reads and, with a picture, sees."""
    pictures = [picture(b64decode(each), "the picture") for each in request.pictures]
    return model.inputs([each.words for each in request.messages], pictures)


def _room(model: LoadedModel, taken: int, most_input: int) -> int:
    """Return how many tokens the answer may have; raise UserError for a prompt that is too long."""
    if taken > most_input:
        raise UserError(
            f"the messages have {taken:,} tokens and at most {most_input:,} are read here: "
            "shorten them, or begin a new chat"
        )
    return room_behind(model.model, model.folder, taken)


class Answer:
    """An answer as far as it has come."""

    def __init__(self, model: LoadedModel, prompt: dict[str, Tensor], settings: Settings) -> None:
        self.model = model
        self.last: Token | None = None
        self._shown = dict(prompt)  # what the model sees, until it has read the prompt
        ids = self._shown.pop("input_ids")
        self._seen = ids  # (1, tokens), all of them
        self._unread = ids  # (1, tokens), those that the cache lacks
        self._past: Any = None
        self._choose = _chooser(settings, ids.device)
        self._unfolding = Unfolding(model.text)
        self._seconds: list[float] = []  # of each token
        reset_peaks(ids.device.type)

    def step(self, stopped: Stopped) -> Token | None:
        """Choose the next token; None when the visitor stopped it."""
        began = perf_counter()
        logits = self._logits(stopped)
        if logits is None or stopped():
            return None
        logprobs = logits[0].log_softmax(-1)
        chosen = self._choose(self._seen, logits)
        before = int(self._seen[0, -1])
        token = Token(
            id=chosen,
            text="" if chosen in self.model.ends else self._unfolding.take(chosen),
            logprob=float(logprobs[chosen]),
            alternatives=self.model.alternatives(logprobs, before),
        )
        self._unread = self._seen.new_tensor([[chosen]])
        self._seen = torch.cat([self._seen, self._unread], dim=1)
        self._seconds.append(perf_counter() - began)
        self.last = token
        return token

    def statistics(self) -> Statistics:
        """Say how it went so far, in the time that the model took and not its listener."""
        first, *later = self._seconds
        memory = held(self._seen.device.type)
        return Statistics(
            tokens=len(self._seconds),
            first_token=first,
            rate=len(later) / sum(later) if later else None,
            memory=memory,
            peak=max(memory, peak(self._seen.device.type)),
        )

    def finish(self, token: Token | None) -> Finished:
        """Say why it is over: None stands for a stop."""
        rest = self._unfolding.rest()
        if token is None:
            return Finished(reason="stopped", rest=rest)
        if token.id in self.model.ends:
            return Finished(reason="end", end=token, rest=rest)
        return Finished(reason="length", rest=rest)

    def _logits(self, stopped: Stopped) -> Tensor | None:  # (1, vocabulary) float32
        """Run the model over what it has not read; None when that was stopped."""
        output: Any = None
        length = self._unread.shape[1] if self._shown else PIECE
        for piece in torch.split(self._unread, length, dim=1):
            if stopped():
                return None
            with torch.inference_mode():
                output = self.model.model(
                    input_ids=piece,
                    past_key_values=self._past,
                    use_cache=True,
                    logits_to_keep=1,
                    **self._shown,
                )
            self._past = output.past_key_values
        self._shown = {}
        logits: Tensor = output.logits[:, -1].float()
        return logits


def _chooser(settings: Settings, device: torch.device) -> Callable[[Tensor, Tensor], int]:
    """Return what takes all tokens and the logits, both of one row, and picks the next."""
    from transformers import LogitsProcessorList

    generator = torch.Generator(device).manual_seed(settings.seed)
    process: Any = LogitsProcessorList(_processors(settings))

    def choose(seen: Tensor, logits: Tensor) -> int:
        scores = process(seen, logits)[0]
        if settings.temperature == 0:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(-1), 1, generator=generator))

    return choose


def _processors(settings: Settings) -> Iterator[Any]:
    """Give transformers' own, in the order of its generate."""
    import transformers as library

    if settings.repetition_penalty != 1:
        yield library.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)
    if settings.temperature == 0:
        return
    yield library.TemperatureLogitsWarper(settings.temperature)
    if settings.top_k > 0:
        yield library.TopKLogitsWarper(settings.top_k)
    if settings.top_p < 1:
        yield library.TopPLogitsWarper(settings.top_p)


def run_request(
    model: LoadedModel, order: Order, most_input: int, most_tokens: int, stopped: Callable[[], bool]
) -> Iterator[Event]:
    """Yield the events of an answer or the scores; a failure that people can mend is one too."""
    try:
        if isinstance(order, Request):
            yield from generate_answer(model, order, most_input, stopped)
        else:
            yield score(model, order, most_tokens)
    except UserError as error:
        yield Failed(text=in_words(str(error), order, model.folder))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        yield Failed(
            text=f"there is not enough memory left for {order.title}: ask for a shorter answer, or "
            "compare fewer models"
        )
