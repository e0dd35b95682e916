"""Measurements on a GPU beside the CPU's, and block by block beside whole.

In float32, so that both devices can be told apart from mistakes; a GPU rounds the factors of its
products there to ten bits (TF32).
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from gpu.findings import Finding, equal, within
from gpu.models import Setting, Subject
from hubq.stages.evaluate.distributions import hidden_states, text_windows
from hubq.stages.evaluate.inference.greedy_decoding import decoded
from hubq.stages.evaluate.inference.likelihoods import Scorer
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.inference.prefixes import Sequence
from hubq.stages.evaluate.measurements import divergence as measurement
from hubq.stages.evaluate.measurements.divergence import DivergenceTask, divergence
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask, window_losses
from hubq.stages.evaluate.task import keep_text

NEAR = 0.01
WAYS = ("cpu", "device", "by blocks")
TOKENS = 16  # that are written
QUESTIONS, ANSWERS = 6, 4


def evaluation(setting: Setting) -> Iterator[Finding]:
    """Yield how far each measurement is from the CPU's."""
    subject = setting.real()
    result = setting.folder / "result" / "model"
    if not result.is_dir():
        subject.quantized("rtn", result.parent)
    found = {way: measured(way, subject, result, setting) for way in WAYS}
    for name, expected in found["cpu"].items():
        for way in WAYS[1:]:
            title = f"{name}, {setting.device.type if way == 'device' else way}"
            if isinstance(expected, float):
                yield within(title, float(found[way][name]), expected, NEAR)
            elif name in found[way]:
                yield equal(title, found[way][name], expected)


def measured(way: str, subject: Subject, result: Path, setting: Setting) -> dict[str, Any]:
    """Measure a quantized model and its base in one way."""
    device = "cpu" if way == "cpu" else str(setting.device)
    by_blocks = way == "by blocks"

    def loaded(folder: Path) -> Any:  # noqa: ANN401 - a model of transformers
        return load(folder, device=device, dtype="float32", by_blocks=by_blocks).model

    hidden = HiddenTask(
        dataset="text",
        text=keep_text(subject.text.read_text()),
        length=subject.length,
        windows=subject.samples,
    )
    states = setting.folder / f"{way}.safetensors"
    hidden_states(Passes(loaded(subject.folder), subject.folder), hidden, states)
    model = loaded(result)
    passes = Passes(model, result)
    shared = hidden.model_dump(include={"dataset", "text", "length", "windows"})
    windows = text_windows(hidden, result)
    losses = window_losses(passes, PerplexityTask(**shared, version="1"), windows)
    compared = DivergenceTask(
        **shared, beside="", precision="float32", states=states, reference=subject.folder
    )
    with patch.object(measurement, "student", lambda windows: 0.0):  # its intervals need scipy
        told = divergence(passes, compared)
    found = {
        "loss of the text": sum(losses) / len(losses),
        "KL divergence": told.mean.value,
        "top-1 agreement": told.agreement.value,
        **likelihoods(model, result, windows),
    }
    return found if by_blocks else found | {"greedy tokens": written(model, windows)}


def likelihoods(model: Any, folder: Path, windows: torch.Tensor) -> dict[str, Any]:  # noqa: ANN401
    """Ask for some answers, of which those to one question share their beginning."""
    asked = [
        Sequence((begin + end)[:-1], end, number)
        for number, (begin, end) in enumerate(questions(windows))
    ]
    found = sorted(each for some in Scorer(model, folder).score(asked) for each in some)
    values = torch.tensor([each.value for each in found], dtype=torch.float64)
    return {
        "log-likelihoods": math.sqrt(float(values.square().mean())),
        "choices": values.view(QUESTIONS, ANSWERS).argmax(1).tolist(),
    }


def questions(windows: torch.Tensor) -> Iterator[tuple[list[int], list[int]]]:
    """Yield beginnings with endings, of the text's tokens."""
    stream = windows.flatten().tolist()
    for question in range(QUESTIONS):
        begin = stream[20 * question : 20 * question + 12 + question]
        for answer in range(ANSWERS):
            yield begin, stream[200 + 7 * answer : 202 + 7 * answer + question % 3]


def written(model: Any, windows: torch.Tensor) -> list[list[int]]:  # noqa: ANN401
    """Return what the model writes after the beginnings of some windows."""
    prompts = windows[:2, :16].to(model.device)
    return [step.flatten().tolist() for step in islice(decoded(model, prompts), TOKENS)]
