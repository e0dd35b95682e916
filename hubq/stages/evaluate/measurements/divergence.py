"""How far a model's next-token distributions are from a reference's: what perplexity averages away.

For each token but the first of each window, p is the reference's distribution over the whole
vocabulary and q the model's, both softmax in float32 of logits in the dtype that each model ran in.
KL(p || q) = sum p ln(p / q) in nats. With logits a and b less their greatest, A = sum exp a and
B = sum exp b it is sum(exp(a) (a - b)) / A + ln(B / A): exactly 0 where both are the same.

The intervals take windows for the sampling unit, since tokens of one window share their text: the
mean of the windows' means, plus and minus so many standard errors as Student's t distribution says
for that many windows.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.records.report import Divergence, Interval
from hubq.stages.evaluate.bootstrap import student
from hubq.stages.evaluate.distributions import (
    Reference,
    opened,
    text_windows,
)
from hubq.stages.evaluate.inference.lm_head import head_of
from hubq.stages.evaluate.inference.nan_check import refuse_bad_windows
from hubq.stages.evaluate.inference.passes import Passed, Passes
from hubq.stages.evaluate.task import Found, MeasuredModel, TextTask

if TYPE_CHECKING:
    from torch import Tensor

LOGITS_AT_ONCE = 1 << 24  # of each model: a product over fewer tokens reads the head too often
IN_CACHE = 1 << 20  # float32 numbers of each model that a core's cache holds while all is done


class DivergenceTask(TextTask):
    """Compare next-token distributions with those of a model whose hidden states were kept."""

    kind: Literal["divergence"] = "divergence"
    protocol_version: ClassVar = 4  # 4 knows that few windows tell less

    windows: int  # at most
    beside: str  # digest of the reference's files
    precision: str  # the dtype that the reference ran in
    states: Path  # of the reference, by its HiddenTask
    reference: Path  # the reference's folder, for its head

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"divergence on {self.dataset}"

    @property
    def most(self) -> int:
        """How many windows it reads at most."""
        return self.windows

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Compare the model with the reference."""
        return Found(divergence=divergence(model.passes, self, progress))


class Compared(NamedTuple):
    """What is known of each token."""

    divergence: "Tensor"  # (tokens,) float64
    agrees: "Tensor"  # (tokens,) bool


def divergence(passes: Passes, task: DivergenceTask, progress: Progress = SILENT) -> Divergence:
    """Compare a loaded model with a task's reference."""
    import torch

    model, folder = passes.model, passes.folder
    windows = text_windows(task, folder)
    with (
        torch.inference_mode(),
        opened(task.states, task.reference, model) as reference,
        progress.task(task.title, len(windows)) as advance,
    ):
        _require_comparable(reference, model, windows, task)
        found: list[Compared] = []
        for passed in passes.over(task, windows):
            found.append(_compared(model, passed, reference))
            by_window = found[-1].divergence.view(len(passed.windows), -1)
            refuse_bad_windows(model, passed.windows, by_window, folder)
            advance(len(passed.windows))
    shape = (len(windows), -1)
    return summary(
        torch.cat([each.divergence for each in found]).view(shape),
        torch.cat([each.agrees for each in found]).view(shape),
    )


def summary(divergence: "Tensor", agrees: "Tensor") -> Divergence:  # (windows, tokens) each
    """Describe the divergence of each token, and whether both models predict the same one."""
    values = divergence.cpu().numpy()
    median, percentile_99 = np.quantile(values, (0.5, 0.99))
    return Divergence(
        tokens=values.size,
        mean=_of_windows(divergence.double()),
        median=float(median),
        percentile_99=float(percentile_99),
        agreement=_of_windows(agrees.double(), greatest=1.0),
    )


def token_divergence(reference: "Tensor", own: "Tensor") -> Compared:  # (tokens, vocabulary) each
    """Compare logits; the tensors may be overwritten."""
    ours, theirs = own.float(), reference.float()
    best, likeliest = ours.max(dim=1, keepdim=True)
    their_best, their_likeliest = theirs.max(dim=1, keepdim=True)
    ours.sub_(best)
    theirs.sub_(their_best)
    difference = theirs - ours
    total, their_total = ours.exp_().sum(1).double(), theirs.exp_().sum(1).double()
    inner = theirs.mul_(difference).sum(1).double()
    value = inner / their_total + (total / their_total).log()
    return Compared(value.clamp_(min=0), (likeliest == their_likeliest).squeeze(1))


def _compared(model: Any, passed: Passed, reference: Reference) -> Compared:  # noqa: ANN401
    """Compare some windows; the model gives its head."""
    import torch

    done = passed.first * passed.states.shape[1]  # tokens that the reference has before them
    own, head = passed.states.flatten(0, 1), head_of(model)
    vocabulary = reference.head.vocabulary
    tokens = max(1, LOGITS_AT_ONCE // vocabulary)
    # A GPU is fastest with all at once; a core loses half its time where its cache overflows.
    block = max(1, IN_CACHE // vocabulary) if own.device.type == "cpu" else tokens
    found: list[Compared] = []
    for first in range(0, len(own), tokens):
        part = own[first : first + tokens]
        logits, theirs = head(part), reference.logits(done + first, done + first + len(part))
        for rows in range(0, len(part), block):
            some = slice(rows, rows + block)
            found.append(token_divergence(theirs[some], logits[some]))
    return Compared(*map(torch.cat, zip(*found, strict=True)))


def _require_comparable(
    reference: Reference,
    model: Any,  # noqa: ANN401 - transformers carries no types
    windows: "Tensor",
    task: DivergenceTask,
) -> None:
    """Raise UserError unless both models predict the same tokens from the same tokens."""
    import torch

    name, vocabulary = model.config.name_or_path, model.config.get_text_config().vocab_size
    way_out = "Name the base that the model was made from, or set fidelity: null"
    if reference.head.vocabulary != vocabulary:
        raise UserError(
            f"{name} has a vocabulary of {vocabulary:,} tokens and {task.reference} one of "
            f"{reference.head.vocabulary:,}: their distributions can't be compared. {way_out}"
        )
    if not torch.equal(reference.windows, windows):
        raise UserError(
            f"{name} and {task.reference} tokenize {task.dataset} differently: their "
            f"tokenizers differ. {way_out}"
        )


def _of_windows(values: "Tensor", greatest: float | None = None) -> Interval:  # (windows, tokens)
    """Return the mean of values between 0 and `greatest`, its interval by windows."""
    means = values.mean(dim=1)
    value = float(means.mean())
    if len(means) < 2:
        return Interval(value=value)
    noise = student(len(means)) * float(means.std() / len(means) ** 0.5)
    high = value + noise
    return Interval(
        value=value,
        low=max(0.0, value - noise),
        high=high if greatest is None else min(greatest, high),
    )
