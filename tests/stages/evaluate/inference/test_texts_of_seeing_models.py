"""Models that see are measured on texts, without pictures, by what measures all others."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_vision import TINY

from hubq.sources.calibration_tokens import token_ids
from hubq.stages.evaluate.distributions import head_weight
from hubq.stages.evaluate.inference.greedy_decoding import decoded, drawn_prompts
from hubq.stages.evaluate.inference.lm_head import head_from, require_head
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask, perplexity
from hubq.stages.evaluate.task import keep_text

TEXT = "The llama went home. It was late, and the road was long. " * 12
LENGTH = 32


@pytest.mark.parametrize("architecture", TINY)
def test_texts_distributions_and_answers_are_those_of_the_models_own_logits(
    tiny_vision_model: Callable[[str], Path], architecture: str
) -> None:
    folder = tiny_vision_model(architecture)
    model = load(folder, device="cpu", dtype="float32").model
    windows = torch.tensor(token_ids(TEXT, folder))[: 4 * LENGTH].view(4, LENGTH)
    losses = [model(input_ids=one[None], labels=one[None]).loss.item() for one in windows]
    task = PerplexityTask(
        dataset="text", length=LENGTH, windows=4, version="1", text=keep_text(TEXT)
    )
    prompts = drawn_prompts(model, 1, 8)

    require_head(model, folder, head_from(head_weight(folder, model).float(), model.config))
    (found,) = perplexity(Passes(model, folder), task)
    first = next(iter(decoded(model, prompts)))

    assert found.value == pytest.approx(math.exp(sum(losses) / 4), rel=1e-5)
    with torch.inference_mode():
        assert first.flatten()[0] == model(input_ids=prompts).logits[0, -1].argmax()
