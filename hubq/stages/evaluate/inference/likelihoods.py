"""Log-likelihoods of tokens under a loaded model, each distinct token run once."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.stages.evaluate.inference.batching import LONG_BEHIND_STEM, Batch, batches
from hubq.stages.evaluate.inference.budget import batches_for, behind
from hubq.stages.evaluate.inference.decoder import Run, last_states
from hubq.stages.evaluate.inference.lm_head import Head, head_of
from hubq.stages.evaluate.inference.nan_check import first_non_finite, refuse_non_finite
from hubq.stages.evaluate.inference.prefixes import Sequence, longest_masked, parts

if TYPE_CHECKING:
    from torch import Tensor

FLOATS_AT_ONCE = 1 << 20  # logits as float32, but on a GPU: what stays in a processor's cache


class Likelihood(NamedTuple):
    """How likely a sequence's targets are."""

    number: int  # of the sequence
    value: float  # sum of the logarithms of the probabilities
    greedy: bool  # whether each target is the likeliest token


class Scorer:
    """A loaded model that is asked how likely tokens are."""

    def __init__(self, model: Any, folder: Path) -> None:  # noqa: ANN401 - a transformers model
        self.model = model
        self.head = head_of(model)
        self.folder = folder
        self.sizes = batches_for(model)

    def score(self, sequences: Iterable[Sequence]) -> Iterator[list[Likelihood]]:
        """Yield the likelihoods of all sequences, as they become known."""
        import torch

        given = {each.number: each for each in sequences}
        scored: deque[Batch] = deque()  # the batches that run, but those of prefixes
        with torch.inference_mode():
            for hidden in last_states(self.model, self._runs(given.values(), scored)):
                found = _likelihoods(hidden, scored.popleft(), self.head, self.sizes.predicted)
                self._refuse_non_finite(found, given)
                yield found

    def _runs(self, sequences: Iterable[Sequence], scored: deque[Batch]) -> Iterator[Run]:
        """Yield prefixes, and the batches behind each; note these."""
        import torch

        longest = longest_masked(self.model)
        for part in parts(sequences, longest):
            if part.prefix:
                yield Run(torch.tensor([part.prefix]), behind=part.kept, grows=True)
            tokens = behind(self.sizes, part.depth, LONG_BEHIND_STEM)
            for batch in batches(part.trees, part.depth, longest, tokens):
                scored.append(batch)
                yield Run(batch.ids, batch.positions, batch.sees, behind=part.depth)

    def _refuse_non_finite(
        self, found: Iterable[Likelihood], given: Mapping[int, Sequence]
    ) -> None:
        """Raise UserError where a likelihood is no number, by the sequence that is to blame.

        Others in its row may have caught it: zero times NaN is NaN, whatever a mask hides.
        """
        import torch

        bad = [given[each.number].inputs for each in found if not math.isfinite(each.value)]
        if bad:
            rows = [torch.tensor([inputs], device=self.model.device) for inputs in bad]
            to_blame = next((ids for ids in rows if first_non_finite(self.model, ids)), rows[0])
            refuse_non_finite(self.model, to_blame, self.folder)


def _likelihoods(
    hidden: "Tensor",  # (rows, length, hidden)
    batch: Batch,
    head: Head,
    at_once: int,  # rows
) -> list[Likelihood]:
    """Sum the log-probabilities of each sequence's targets."""
    import torch

    places, targets, numbers = torch.tensor(batch.scored, device=hidden.device).T
    rows, which = places.unique(return_inverse=True)
    order = which.argsort()
    asked = Targets(hidden.flatten(0, 1)[rows], which[order], targets[order])
    values, greedy = map(torch.cat, zip(*_log_probabilities(asked, head, at_once), strict=True))
    found, owner = numbers[order].unique(return_inverse=True)
    sums = torch.zeros(len(found), dtype=torch.float64, device=hidden.device)
    misses = torch.zeros(len(found), dtype=torch.int64, device=hidden.device)
    sums.index_add_(0, owner, values.double())
    misses.index_add_(0, owner, (~greedy).long())
    return list(map(Likelihood, found.tolist(), sums.tolist(), (misses == 0).tolist()))


class Targets(NamedTuple):
    """The targets of a batch, and what predicts them."""

    hidden: "Tensor"  # (rows, hidden)
    rows: "Tensor"  # (targets,), ascending: which row predicts each
    targets: "Tensor"  # (targets,)

    def part(self, first: int, count: int) -> "Targets":
        """Return what some of the rows predict."""
        low, high = (int((self.rows < end).sum()) for end in (first, first + count))
        hidden = self.hidden[first : first + count]
        return Targets(hidden, self.rows[low:high] - first, self.targets[low:high])


def _log_probabilities(
    asked: Targets,
    head: Head,
    at_once: int,
) -> "Iterator[tuple[Tensor, Tensor]]":
    """Yield targets' log-probabilities in float32, and whether each is its row's likeliest.

    The logits of one part are small, and so is what is float32 at a time, but on a GPU.
    """
    on_gpu = asked.hidden.device.type == "cuda"
    piece = at_once if on_gpu else max(1, FLOATS_AT_ONCE // head.vocabulary)
    for first in range(0, len(asked.hidden), at_once):
        some = asked.part(first, at_once)
        logits = head(some.hidden)
        for begin in range(0, len(logits), piece):
            _, rows, targets = some.part(begin, piece)
            yield _of_rows(logits[begin : begin + piece].float(), rows, targets)


def _of_rows(
    logits: "Tensor",  # (rows, vocabulary) float32; its memory is used up
    rows: "Tensor",  # (targets,)
    targets: "Tensor",  # (targets,)
) -> "tuple[Tensor, Tensor]":
    """Return the targets' log-probabilities, and whether each is the first of the likeliest."""
    highest = logits.amax(-1)
    chosen = logits[rows, targets] - highest[rows]
    greedy = chosen == 0
    # The place of the highest costs more to find than its value: only where it decides.
    greedy[greedy.clone()] = logits[rows[greedy]].argmax(-1) == targets[greedy]
    return chosen - logits.sub_(highest[:, None]).exp_().sum(-1).log_()[rows], greedy
