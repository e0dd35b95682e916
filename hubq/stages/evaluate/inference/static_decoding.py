"""Decoding on a GPU as one recorded graph a step, and whether launches held it up.

A step of decoding reads each weight once, which takes a GPU a few milliseconds; to launch its
hundreds of kernels one by one takes Python tens. Such a speed says nothing of a format. So keys and
values lie where they stay (transformers' static cache), and a step is recorded once as a CUDA graph
and replayed. A step that can't be recorded is launched as ever, with the reason. What the kernels
themselves took is summed up by torch's profiler: a step that takes much longer was bound by
launches.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from hubq.machine.device import synchronize
from hubq.stages.evaluate.inference.prefixes import longest_masked

if TYPE_CHECKING:
    from torch import Tensor

TRIED = 2  # steps before the recording: kernels are chosen, and one replay shows no later one
UNPROFILED, PROFILED = 2, 8  # steps: the first reads the prompts, the second moves their keys

Step = Callable[[], None]


class StaticDecoder:
    """A loaded model whose keys and values of so many tokens lie where they stay."""

    def __init__(self, model: Any, batch: int, length: int) -> None:  # noqa: ANN401
        import torch
        from transformers import StaticCache

        self.model = model
        self.cache: Any = StaticCache(config=model.config, max_cache_len=length)
        with torch.inference_mode():
            self.places = torch.arange(length, device=model.device)
            self.position = torch.zeros(1, 1, dtype=torch.long, device=model.device)
            self.ids = torch.zeros(batch, 1, dtype=torch.long, device=model.device)
        self.advance: Step = self.step

    def decoded(self, prompts: "Tensor") -> "Iterator[Tensor]":
        """Yield the likeliest next token of each row, (batch, 1), as `decoded` elsewhere does.

        The prompts (batch, tokens) are read as there; their keys and values then move here.
        """
        import torch

        with torch.inference_mode():
            read = self.model(input_ids=prompts, use_cache=True, logits_to_keep=1)
            self.ids.copy_(read.logits[:, -1].argmax(dim=-1, keepdim=True))
            self.position.fill_(prompts.shape[1])
        yield self.ids.clone()
        with torch.inference_mode():
            self.cache.reset()
            for index, layer in enumerate(read.past_key_values.layers):
                self.cache.update(layer.keys, layer.values, index)
        while True:
            self.advance()
            yield self.ids.clone()

    def step(self) -> None:
        """Run one token of each row, whose likeliest next takes its place."""
        import torch

        with torch.inference_mode():
            logits = self.model(
                input_ids=self.ids,
                position_ids=self.position,
                attention_mask=(self.places <= self.position)[None, None],  # (1, 1, 1, length)
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            self.ids.copy_(logits[:, -1].argmax(dim=-1, keepdim=True))
            self.position.add_(1)


def recorded(step: Step) -> Step:
    """Record a step as a CUDA graph; return what replays it. Raises RuntimeError if it can't be."""
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def static_decoder(
    model: Any,  # noqa: ANN401
    prompts: "Tensor",  # (batch, tokens)
    output: int,
    record: Callable[[Step], Step] = recorded,
) -> StaticDecoder | str:
    """Return what decodes `output` tokens a row by replaying one step, or why there is none."""
    from transformers.cache_utils import StaticLayer

    length = prompts.shape[1] + max(output, 1 + TRIED, UNPROFILED + PROFILED)
    if longest_masked(model) < length:
        return "its attention takes no mask from outside, or sees a window only"
    decoder = StaticDecoder(model, len(prompts), length)
    if any(type(layer) is not StaticLayer for layer in decoder.cache.layers):
        return "it keeps keys and values in another way"
    try:
        launched = _first(decoder, prompts)
        decoder.advance = record(decoder.step)
        replayed = _first(decoder, prompts)
    except RuntimeError as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return decoder if launched == replayed else "the recorded step gave other tokens"


def _first(decoder: StaticDecoder, prompts: "Tensor") -> list[list[int]]:
    """Return the first tokens of each row, step by step."""
    return [ids.flatten().tolist() for ids in islice(decoder.decoded(prompts), 1 + TRIED)]


def busy_seconds(steps: "Iterator[Tensor]", device: str) -> float | None:
    """Return how long a GPU computes in one of some steps, by its profiler; None: not told.

    What it waits for the next launch between two kernels doesn't count.
    """
    from torch.profiler import ProfilerActivity, profile

    for _ in islice(steps, UNPROFILED):
        pass
    synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in islice(steps, PROFILED):
            pass
        synchronize(device)
    return summed(profiled.events() or ()) / PROFILED or None


def summed(events: Iterable[Any]) -> float:
    """Return the seconds of a profiler's events that ran on the GPU, one after the other."""
    on_gpu = (each for each in events if each.device_type.name == "CUDA")
    times = (each.time_range.elapsed_us() for each in on_gpu if not each.is_user_annotation)
    return float(sum(times)) / 1e6
