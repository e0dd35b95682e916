"""Carry an order out with a loaded model."""

from collections.abc import Callable, Iterator

import torch

from hubq.errors import UserError
from serving.decoding import speak
from serving.loaded_model import Voice
from serving.messages import Event, Failed, Order, Request, in_words
from serving.scoring import score


def carry_out(
    voice: Voice, order: Order, most_input: int, most_tokens: int, stopped: Callable[[], bool]
) -> Iterator[Event]:
    """Yield the events of an answer or the scores; a failure that people can mend is one too."""
    try:
        if isinstance(order, Request):
            yield from speak(voice, order, most_input, stopped)
        else:
            yield score(voice, order, most_tokens)
    except UserError as error:
        yield Failed(text=in_words(str(error), order, voice.folder))
    except torch.OutOfMemoryError:
        yield Failed(text=f"there is not enough memory left on the GPU for {order.title}")
