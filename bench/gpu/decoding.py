"""Decoding by a recorded step: the tokens of launched ones, its speed, and the clock that tells it.

A step reads each weight once, so it can't be faster than the memory allows.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from gpu.findings import Finding, equal, not_run, told, within
from gpu.models import Setting
from hubq.stages.evaluate.inference.greedy_decoding import decoded, drawn_prompts, timed
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.static_decoding import (
    StaticDecoder,
    busy_seconds,
    recorded,
    static_decoder,
)

OUTPUT = 32
CLOCKS = 0.1  # how far events and the clock may lie apart: the host's part of a step


def decoding(setting: Setting) -> Iterator[Finding]:
    """Yield whether tokens are equal and how fast they come."""
    on_gpu = setting.device.type == "cuda"
    model = loaded(setting, setting.real().folder, "float32")
    prompts = drawn_prompts(model, batch=2, length=16)
    decoder = static_decoder(model, prompts, OUTPUT, recorded if on_gpu else lambda step: step)
    if not isinstance(decoder, StaticDecoder):
        yield Finding("a recorded step", "a graph", decoder, ok=False)
        return
    yield equal("tokens by a recorded step", tokens(decoder.decoded(prompts)),
                tokens(decoded(model, prompts)))  # fmt: skip
    if on_gpu:
        yield from speeds(loaded(setting, setting.wide("8b", 4).folder, "bfloat16"))
    else:
        yield not_run("speeds", "needs CUDA")


def loaded(setting: Setting, folder: Any, dtype: str) -> Any:  # noqa: ANN401 - of transformers
    """Load a model on the device."""
    return load(folder, device=str(setting.device), dtype=dtype).model


def tokens(steps: Iterator[torch.Tensor]) -> list[list[int]]:
    """Return the first tokens."""
    return [ids.flatten().tolist() for ids in islice(steps, OUTPUT)]


def speeds(model: Any) -> Iterator[Finding]:  # noqa: ANN401
    """Yield the milliseconds of a step, launched and replayed, by the clock and by events."""
    prompts = drawn_prompts(model, batch=1, length=128)
    decoder = static_decoder(model, prompts, 2 * OUTPUT)
    if not isinstance(decoder, StaticDecoder):
        yield Finding("a recorded step of 8B's widths", "a graph", decoder, ok=False)
        return
    replayed = tokens(decoder.decoded(prompts))
    advance, decoder.advance = decoder.advance, decoder.step
    yield equal("tokens, replayed and launched", replayed, tokens(decoder.decoded(prompts)))
    decoder.advance = advance
    launched = timed(decoded(model, prompts), OUTPUT, "cuda").rest / (OUTPUT - 1)
    clock = timed(decoder.decoded(prompts), OUTPUT, "cuda").rest / (OUTPUT - 1)
    yield told("a step of four blocks of 8B's widths", f"{1e3 * clock:.2f} ms by a graph",
               f"{1e3 * launched:.2f} ms launched")  # fmt: skip
    yield within("a step in ms, by events and by the clock", 1e3 * by_events(decoder, prompts),
                 1e3 * clock, CLOCKS)  # fmt: skip
    busy = busy_seconds(decoder.decoded(prompts), "cuda")
    yield Finding("what of it kernels took", "most of the step",
                  "not told" if busy is None else f"{1e3 * busy:.2f} ms",
                  ok=busy is not None and busy <= 1.1 * clock)  # fmt: skip


def by_events(decoder: StaticDecoder, prompts: torch.Tensor) -> float:
    """Return the seconds of a step between two events of the GPU's own."""
    steps = decoder.decoded(prompts)
    for _ in islice(steps, 2):
        pass
    event: Any = torch.cuda.Event  # not typed
    begin, end = (event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in islice(steps, OUTPUT):
        pass
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / OUTPUT
