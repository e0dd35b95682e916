"""Perplexity, by a protocol that anyone can repeat.

The text is tokenized once, as one stream; special tokens that the tokenizer adds (a begin token,
for Llama 3) stand only at the stream's ends, so only the first window has one. The stream is cut
into windows of equal length that do not overlap, and the rest is dropped. Each window is scored
on its own: its first token is context only, each later one is predicted from those before it.
The loss of a window is the mean negative log-likelihood of its length - 1 targets, in nats, taken
in float32 from logits in the model's dtype. Perplexity is exp(mean of the windows' losses).

The standard error treats windows as a sample of the text: by the delta method it is the
perplexity times the standard error of the mean loss. It says how far another part of the same text
might lie, not how far two models differ: both are measured on the same windows (bootstrap.py).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hubq.errors import UserError
from hubq.machine.progress import SILENT, Advance, Progress
from hubq.records.report import OVERFLOW
from hubq.sources.calibration_tokens import leading_ids, token_ids
from hubq.sources.task_names import dimension_of
from hubq.stages.evaluate.inference.lm_head import Head, head_of
from hubq.stages.evaluate.inference.nan_check import refuse_bad_windows
from hubq.stages.evaluate.inference.passes import Passed, Passes
from hubq.stages.evaluate.task import Found, MeasuredModel, Score, TextTask, text_file

if TYPE_CHECKING:
    from torch import Tensor

LOGITS_AT_ONCE = 1 << 25  # 128 MB in float32, however large the vocabulary


class PerplexityTask(TextTask):
    """Perplexity over windows of a text that lies in hubq's cache."""

    kind: Literal["perplexity"] = "perplexity"
    protocol_version: ClassVar = 3

    version: str
    windows: int | None  # just so many; None: all, or at most so many as follows
    at_most: int | None = None

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"perplexity on {self.dataset}"

    @property
    def most(self) -> int | None:
        """How many windows it reads at most; None: all."""
        return self.windows or self.at_most

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Measure the perplexity."""
        return Found(scores=perplexity(model.passes, self, progress))


def perplexity(
    passes: Passes, task: PerplexityTask, progress: Progress = SILENT
) -> tuple[Score, ...]:
    """Measure the perplexity of a loaded model."""
    folder = passes.folder
    text = text_file(task.text).read_bytes().decode()
    wanted = task.most
    ids = leading_ids(text, folder, wanted * task.length) if wanted else token_ids(text, folder)
    windows = evaluation_windows(ids, task)
    with progress.task(task.title, len(windows)) as advance:
        losses = window_losses(passes, task, windows, advance)
    value, stderr = estimate(losses)
    return (
        Score(
            task="perplexity",
            dataset=task.dataset,
            metric="perplexity",
            better="lower",
            dimension=dimension_of("perplexity"),
            value=value,
            stderr=stderr,
            samples=len(losses),
            protocol=protocol(task, len(losses)),
            version=task.version,
            items=tuple(losses),
        ),
    )


def protocol(task: PerplexityTask, windows: int) -> str:
    """Say in one sentence what was done."""
    first = task.windows or windows == task.at_most
    which = f"the first {windows}" if first else f"all {windows}"
    return (
        f"{which} non-overlapping windows of {task.length} tokens of the text tokenized as one "
        "stream (special tokens only at its ends), each window scored on its own: exp of the mean "
        f"negative log-likelihood of its last {task.length - 1} tokens"
    )


def evaluation_windows(ids: list[int], task: PerplexityTask) -> "Tensor":
    """Cut a stream into (windows, length); raise UserError when there are too few tokens."""
    import torch

    available = len(ids) // task.length
    wanted = task.windows or max(min(available, task.at_most or available), 1)
    if available < wanted:
        raise UserError(
            f"perplexity: {task.dataset} has {len(ids):,} tokens, which make {available} windows "
            f"of {task.length}, not {wanted}; ask for fewer or shorter windows"
        )
    return torch.tensor(ids[: wanted * task.length]).view(wanted, task.length)


def estimate(losses: list[float]) -> tuple[float, float | None]:
    """Return the perplexity of windows with these losses, and its standard error.

    One of OVERFLOW is that or more: nobody can tell how much.
    """
    count = len(losses)
    mean = math.fsum(losses) / count
    if mean >= math.log(OVERFLOW):
        return OVERFLOW, None
    value = math.exp(mean)
    if count < 2:
        return value, None
    variance = math.fsum((loss - mean) ** 2 for loss in losses) / (count - 1)
    return value, value * math.sqrt(variance / count)


def window_losses(
    passes: Passes,
    task: PerplexityTask,
    windows: "Tensor",  # (windows, length)
    advance: Advance = lambda steps: None,
) -> list[float]:
    """Return each window's mean loss in nats; raise UserError where one is not finite."""
    import torch

    losses: list[float] = []
    with torch.inference_mode():
        for passed in passes.over(task, windows):
            found = _batch_losses(passes.model, passed)
            refuse_bad_windows(passes.model, passed.windows, found[:, None], passes.folder)
            losses += found.tolist()
            advance(len(passed.windows))
    return losses


def _batch_losses(model: Any, passed: Passed) -> "Tensor":  # noqa: ANN401
    """Return the mean loss of each window of a batch, (batch,) float64."""
    import torch

    head, targets = head_of(model), passed.windows[:, 1:].flatten()
    parts = [
        torch.nn.functional.cross_entropy(head(rows).float(), some, reduction="none")
        for rows, some in _parts(passed.states.flatten(0, 1), targets, head)
    ]
    return torch.cat(parts).view(len(passed.windows), -1).double().mean(dim=1)


def _parts(
    hidden: "Tensor",  # (tokens, hidden)
    targets: "Tensor",  # (tokens,)
    head: Head,
) -> "Iterator[tuple[Tensor, Tensor]]":
    """Split the tokens so that the logits of one part are small."""
    rows = max(1, LOGITS_AT_ONCE // head.vocabulary)
    for first in range(0, len(targets), rows):
        yield hidden[first : first + rows], targets[first : first + rows]
