"""The loaded model as lm-eval's model class: progress by request, memory bounded, NaN refused."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from hubq.errors import UserError
from hubq.progress import Progress

REQUESTS_A_STEP = 64  # between two reports of progress
LOGITS_AT_ONCE = 1 << 27  # elements of one batch's logits; float32 copies of them are 512 MB each
BYTES_A_TOKEN = 3  # a cautious guess, for English


class Answering(HFLM):  # type: ignore[misc] # lm-eval carries no types
    """HFLM over a model that is already loaded, scoring in float32."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - transformers carries no types
        tokenizer: Any,  # noqa: ANN401
        progress: Progress,
        title: str,
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, softmax_dtype="float32")
        self.progress = progress
        self.title = title

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Score the requests, the longest first, a few at a time, in batches that fit."""
        order = sorted(range(len(requests)), key=lambda index: _longest_first(requests[index]))
        answers: dict[int, tuple[float, bool]] = {}
        with self.progress.task(self.title, len(requests)) as advance:
            for first in range(0, len(order), REQUESTS_A_STEP):
                step = order[first : first + REQUESTS_A_STEP]
                some = [requests[index] for index in step]
                self.batch_size_per_gpu = self._batch_size(some)
                answers |= zip(step, super().loglikelihood(some, disable_tqdm=True), strict=True)
                advance(len(step))
        self._refuse_non_finite(answers.values())
        return [answers[index] for index in range(len(requests))]

    def _batch_size(self, requests: Sequence[Instance]) -> int:
        """Return how many of these may be scored at once."""
        longest = max(len("".join(request.args).encode()) for request in requests)
        tokens = max(1, longest // BYTES_A_TOKEN)
        return max(1, min(REQUESTS_A_STEP, LOGITS_AT_ONCE // (tokens * len(self.tokenizer))))

    def _refuse_non_finite(self, answers: Any) -> None:  # noqa: ANN401
        """Raise UserError where a score is no number: an accuracy would hide it."""
        if not all(math.isfinite(score) for score, _ in answers):
            raise UserError(
                f"{self.model.config.name_or_path} computes NaN or infinity on {self.title}; "
                "quantize again with more bits or another method, or check the base model"
            )


def _longest_first(request: Instance) -> tuple[int, tuple[str, ...]]:
    """Sort by length, those with one context side by side: lm-eval scores these together."""
    return -len(request.args[0]), request.args


def answering(model: Any, folder: Path, progress: Progress, title: str) -> Answering:  # noqa: ANN401
    """Wrap a loaded model for lm-eval, with the tokenizer of its folder."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Answering(model, tokenizer, progress, title)
