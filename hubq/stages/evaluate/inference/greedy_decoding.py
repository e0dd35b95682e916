"""Greedy decoding: the same loop for every model, for an answer or with a clock."""

import time
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.machine.device import synchronize
from hubq.records.report import Interval

if TYPE_CHECKING:
    from torch import Tensor

SEED = 0  # of the prompts


class Times(NamedTuple):
    """The seconds of one run."""

    first: float  # the prompt, and the first token after it
    rest: float  # all other tokens


def timed(steps: "Iterator[Tensor]", output: int, device: str) -> Times:
    """Time so many steps, of which the first reads the prompts, on a device."""
    synchronize(device)
    began = time.perf_counter()
    next(steps)
    synchronize(device)
    first = time.perf_counter()
    for _ in range(output - 1):
        next(steps)
    synchronize(device)
    return Times(first - began, time.perf_counter() - first)


def decoded(model: Any, input_ids: "Tensor", **seen: "Tensor") -> "Iterator[Tensor]":  # noqa: ANN401
    """Yield the likeliest next token of each row, (batch, 1), without an end.

    What a model sees, such as pixel_values, goes in with the prompts alone.
    """
    import torch

    ids, cache = input_ids, None
    while True:
        with torch.inference_mode():  # not around a yield: it would hold for the caller too
            step = model(
                input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **seen
            )
            ids, cache = step.logits[:, -1].argmax(dim=-1, keepdim=True), step.past_key_values
        seen = {}
        yield ids


def drawn_prompts(model: Any, batch: int, length: int) -> "Tensor":  # noqa: ANN401
    """Draw token ids, (batch, length): a dense decoder takes as long for any of them."""
    return drawn_ids(model.config.get_text_config().vocab_size, batch, length).to(model.device)


def drawn_ids(vocabulary: int, batch: int, length: int) -> "Tensor":
    """Draw such ids for a model that isn't loaded."""
    import torch

    drawn = torch.Generator().manual_seed(SEED)
    return torch.randint(vocabulary, (batch, length), generator=drawn)


def spread(values: list[float]) -> Interval:
    """Return the median of repetitions, from the least to the greatest."""
    return Interval(value=median(values), low=min(values), high=max(values))
