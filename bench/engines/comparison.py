"""Whether an engine's answers are those of transformers, by numbers.

Two computations in bfloat16 never agree wholly. What that dtype alone does to the log-likelihoods
of the prompts is measured, with transformers itself: its noise. An engine may be twice as far from
transformers in float32. A token that it writes greedily may be another one only where two are
nearly equally likely: float32 must find the other likelier by no more than a few times the noise.
Where the noise is so large that it would excuse anything, no answer counts as right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hubq.machine.progress import quiet
from hubq.records.engine_tests import Numbers
from hubq.stages.evaluate.inference.loading import load

FARTHER = 2.0  # times the noise that an engine's likelihoods may be off
FARTHEST = 1.0  # nats that they may be off, whatever the noise
NEAR = 8.0  # times the noise by which a token may be less likely than the likeliest
Tokens = Sequence[Sequence[int]]
Scores = Sequence[Sequence[float]]


class Reference(NamedTuple):
    """A folder's model in transformers, and what it says of the prompts."""

    model: Any  # in float32
    prompts: Tokens
    scored: Scores  # of each prompt's tokens but the first, in nats
    noise: float  # root mean square of what the engines' dtype changes of them


def reference(folder: Path, prompts: Tokens, dtype: str) -> Reference:
    """Load a folder in float32, after measuring it in the engines' dtype."""
    with quiet():
        rough = scores(load(folder, device="cpu", dtype=dtype).model, prompts)
        model = load(folder, device="cpu", dtype="float32").model
    exact = scores(model, prompts)
    return Reference(model, prompts, exact, apart(rough, exact))


def scores(model: Any, texts: Tokens) -> Scores:  # noqa: ANN401 - of transformers
    """Return the log-likelihood of each token but the first."""
    return [
        log_likelihoods(model, text)[:-1].gather(1, torch.tensor(text)[1:, None])[:, 0].tolist()
        for text in texts
    ]


def log_likelihoods(model: Any, text: Sequence[int]) -> Tensor:  # noqa: ANN401 - of transformers
    """Return (tokens, vocabulary), in nats."""
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([text]), use_cache=False).logits[0]
    return logits.double().log_softmax(-1)


def apart(found: Scores, exact: Scores) -> float:
    """Return the root mean square of the differences; infinite where something is no number."""
    pairs = zip(found, exact, strict=True)
    differences = torch.cat([torch.tensor(a) - torch.tensor(b) for a, b in pairs])
    distance = float(differences.double().square().mean().sqrt())
    return distance if distance == distance else float("inf")


def compare(wanted: Reference, written: Tokens, scored: Scores) -> Numbers:
    """Measure an engine's likelihoods of the prompts, and each token that it wrote."""
    gaps = [
        gap
        for prompt, new in zip(wanted.prompts, written, strict=True)
        for gap in _gaps(wanted.model, prompt, new)
    ]
    return Numbers(
        distance=apart(scored, wanted.scored),
        noise=wanted.noise,
        written=len(gaps),
        equal=sum(gap == 0 for gap in gaps),
        gap=max(gaps),
    )


def _gaps(model: Any, prompt: Sequence[int], new: Sequence[int]) -> list[float]:  # noqa: ANN401
    """Return by how much the likeliest token beats each that was written after what is before."""
    found = log_likelihoods(model, [*prompt, *new])[len(prompt) - 1 : -1]
    taken = found.gather(1, torch.tensor(new)[:, None])[:, 0]
    gaps: list[float] = (found.amax(1) - taken).tolist()
    return gaps


def is_right(numbers: Numbers) -> bool:
    """Tell whether that is no more than what the dtype explains."""
    likely = numbers.distance <= min(FARTHER * numbers.noise, FARTHEST)
    return likely and numbers.gap <= NEAR * numbers.noise
