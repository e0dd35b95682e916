"""The unquantized model, which a method that tunes learns from: its hidden states, its doubts."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hubq.machine.progress import Progress
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.quantize.block import BATCH_TOKENS, Block, batches
from hubq.stages.quantize.resume import States

PIECE = 4096  # rows of the head, that are in memory at once


@dataclass(frozen=True)
class Teacher:
    """What the unquantized model makes of the calibration windows."""

    hidden: Tensor  # (windows, length, hidden): what reaches a block; `advance` moves it on
    entropy: Tensor  # (windows, length) float32: of each next-token prediction, in nats

    def advance(self, block: Block) -> None:
        """Run an unquantized block, in place."""
        for window in batches(*self.hidden.shape[:2]):
            self.hidden[window] = block.forward(self.hidden[window])


@torch.no_grad()
def prediction_entropy(
    hidden: Tensor, skeleton: Skeleton, weights: Weights, states: States, progress: Progress
) -> Tensor:
    """Return the entropy of each next token under the unquantized model, (windows, length).

    `hidden` (windows, length, hidden) is what reaches the first block. What leaves each block is
    kept among the states, and in the end the entropy, so a killed pass goes on.
    """
    blocks, passed = len(skeleton.blocks), states.passed()
    kept = states.read(passed) if passed else {"hidden": hidden}
    with progress.task("Reading as the base does", blocks + 1) as advance:
        advance(passed)
        for number in range(passed, blocks + 1):
            teacher = Teacher(kept["hidden"].to(hidden, copy=True), hidden.new_empty(0))
            if number < blocks:
                block = Block(skeleton, number, weights)
                teacher.advance(block)
                block.free()
                kept = {"hidden": teacher.hidden}
            else:
                kept = {"entropy": _entropy(teacher.hidden, skeleton, weights)}
            states.write(number + 1, kept)
            states.forget(number)
            advance(1)
    return kept["entropy"].to(hidden.device)


def _entropy(hidden: Tensor, skeleton: Skeleton, weights: Weights) -> Tensor:
    """Return the entropy of the softmax of the head's logits, summed piece by piece of the head.

    With m the largest logit l, z = sum of exp(l - m) and s = sum of exp(l - m) (l - m), which is
    log z - s / z.
    """
    normed = _normed(hidden, skeleton, weights).flatten(0, 1)  # (tokens, hidden)
    most = torch.full(normed.shape[:1], -torch.inf, device=normed.device)
    total, moment = torch.zeros_like(most), torch.zeros_like(most)
    for rows in _head(skeleton, weights):
        for begin in range(0, len(normed), BATCH_TOKENS):
            here = slice(begin, begin + BATCH_TOKENS)
            logits = (normed[here] @ rows.to(normed).T).float()
            raised = torch.maximum(most[here], logits.amax(1))
            fall = (most[here] - raised).nan_to_num_(neginf=0)  # of the m so far
            shrunk = fall.exp() * total[here]
            logits -= raised[:, None]
            shares = logits.exp()
            moment[here] = fall.exp() * moment[here] + fall * shrunk + (shares * logits).sum(1)
            total[here] = shrunk + shares.sum(1)
            most[here] = raised
    return (total.log() - moment / total).view(hidden.shape[:2])


def _normed(hidden: Tensor, skeleton: Skeleton, weights: Weights) -> Tensor:
    """Return what reaches the head."""
    weight = weights.read(f"{skeleton.family.norm}.weight").to(hidden)
    found: Tensor = torch.func.functional_call(skeleton.norm, {"weight": weight}, (hidden,))
    return found


def _head(skeleton: Skeleton, weights: Weights) -> Iterator[Tensor]:
    """Read the head's rows, which are the embeddings' where the two are tied."""
    family = skeleton.family
    tied = skeleton.config.tie_word_embeddings
    name = f"{family.embeddings if tied else family.head}.weight"
    size = weights.info[name].shape[0]
    for begin in range(0, size, PIECE):
        yield weights.rows(name, torch.arange(begin, min(begin + PIECE, size)))
