"""A step on keys and values that stay: the same tokens, and a reason where it can't be recorded."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import Tensor
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from hubq.records.report import Decoding
from hubq.stages.evaluate.inference.greedy_decoding import decoded, drawn_prompts
from hubq.stages.evaluate.inference.static_decoding import (
    PROFILED,
    UNPROFILED,
    StaticDecoder,
    Step,
    static_decoder,
    summed,
)


class Given(NamedTuple):
    model: Any
    prompts: Tensor


def loaded(folder: Path, **changes: object) -> Any:
    auto: Any = transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32, **changes).eval()


@pytest.fixture(scope="module")
def given(tiny_model: Callable[[str], Path]) -> Given:
    model = loaded(tiny_model("llama3.1"))
    return Given(model, drawn_prompts(model, batch=3, length=9))


def as_it_is(step: Step) -> Step:
    return step


def test_the_tokens_are_those_of_a_cache_that_grows(given: Given) -> None:
    expected = list(islice(decoded(*given), 12))

    found = static_decoder(*given, 12, as_it_is)

    assert isinstance(found, StaticDecoder)
    assert torch.equal(
        torch.cat(list(islice(found.decoded(given.prompts), 12))), torch.cat(expected)
    )


def test_there_is_room_for_the_steps_that_are_tried_and_profiled(given: Given) -> None:
    found = static_decoder(*given, 2, as_it_is)
    assert isinstance(found, StaticDecoder)

    steps = list(islice(found.decoded(given.prompts), UNPROFILED + PROFILED))

    assert torch.equal(
        torch.cat(steps), torch.cat(list(islice(decoded(*given), UNPROFILED + PROFILED)))
    )


def test_a_second_run_begins_anew(given: Given) -> None:
    found = static_decoder(*given, 6, as_it_is)
    assert isinstance(found, StaticDecoder)

    first, second = (torch.cat(list(islice(found.decoded(given.prompts), 6))) for _ in range(2))

    assert torch.equal(first, second)


def test_a_step_that_cant_be_recorded_says_why(given: Given) -> None:
    def refuse(step: Step) -> Step:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    assert static_decoder(*given, 6, refuse) == "operation not permitted when stream is capturing"


def test_a_recording_that_does_not_do_the_step_is_not_used(given: Given) -> None:
    assert static_decoder(*given, 6, lambda step: lambda: None) == (
        "the recorded step gave other tokens"
    )


def test_attention_that_takes_no_mask_of_ours_is_not_recorded(
    tiny_model: Callable[[str], Path], given: Given
) -> None:
    model = loaded(tiny_model("llama3.1"), attn_implementation="eager")

    found = static_decoder(model, given.prompts, 6, as_it_is)

    assert found == "its attention takes no mask from outside, or sees a window only"


@pytest.mark.parametrize(
    ("busy", "bound"), [(0.0048, True), (0.0239, True), (0.0241, False), (0.03, False)]
)
def test_decoding_is_bound_by_launches_if_the_gpu_waited_for_a_fifth(
    busy: float, bound: bool
) -> None:
    found = Decoding(graph=False, reason="", step_seconds=0.03, busy_seconds=busy)

    assert found.bound_by_launches is bound


def test_without_a_profile_nobody_knows() -> None:
    assert Decoding(graph=True, step_seconds=0.03).bound_by_launches is None


def event(where: DeviceType, microseconds: float, named: bool = False) -> SimpleNamespace:
    time = SimpleNamespace(elapsed_us=lambda: microseconds)
    return SimpleNamespace(device_type=where, time_range=time, is_user_annotation=named)


def test_only_what_runs_on_the_gpu_counts() -> None:
    events = [
        event(DeviceType.CUDA, 300),
        event(DeviceType.CUDA, 200),
        event(DeviceType.CPU, 5000),
        event(DeviceType.CUDA, 9000, named=True),  # a span around others
    ]

    assert summed(events) == pytest.approx(0.0005)
