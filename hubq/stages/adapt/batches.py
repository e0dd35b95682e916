"""Which pairs each step of a training learns from, and how they lie in one tensor.

Pairs of about the same length come together, as QLoRA groups them, since padding costs as much as
tokens; the order of the batches stays random. A batch is a pure function of the seed and the step.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from hubq.methods.adapters.branches.lora import seed_of
from hubq.sources.instructions.tokens import UNLEARNT, Example

GROUPED = 50  # batches whose pairs are sorted by length before they are cut


class Rows(NamedTuple):
    """Pairs side by side, padded on the right."""

    ids: Tensor  # (rows, length) int64
    places: Tensor  # (n,) int64: of the states, row after row, that predict a labelled token
    targets: Tensor  # (n,) int64: the tokens to predict there
    counts: tuple[int, ...]  # targets of each row

    def to(self, device: torch.device) -> "Rows":
        """Return the same on a device."""
        places, targets = self.places.to(device), self.targets.to(device)
        return Rows(self.ids.to(device), places, targets, self.counts)


class Order:
    """The batches of a training, each a list of the pairs' numbers."""

    def __init__(self, lengths: Sequence[int], size: int, seed: int) -> None:
        self.lengths = tuple(lengths)
        self.size = size
        self.seed = seed

    def batch(self, step: int) -> list[int]:
        """Return the pairs of a step, counted from 0; the last of an epoch may be fewer."""
        epoch, number = divmod(step, -(-len(self.lengths) // self.size))
        return self._epoch(epoch)[number]

    @lru_cache(maxsize=1)  # noqa: B019 - an order lives as long as its training
    def _epoch(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed_of(f"epoch {epoch}", self.seed))
        shuffled = torch.randperm(len(self.lengths), generator=generator).tolist()
        grouped: list[int] = []
        for group in pieces(shuffled, GROUPED * self.size):
            grouped += sorted(group, key=self.lengths.__getitem__)
        batches = list(pieces(grouped, self.size))
        order = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[number] for number in order]


def pieces(items: list[int], size: int) -> Iterator[list[int]]:
    """Cut a list into parts of so many items; the last may have fewer."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def rows(examples: Sequence[Example], pad: int) -> Rows:
    """Put pairs side by side.

    What is padded stands on the right, where causal attention lets no token see it: no mask is
    needed, and a pair's numbers depend on no other pair.
    """
    length = max(len(each.ids) for each in examples)
    ids = torch.full((len(examples), length), pad)
    labels = torch.full((len(examples), length), UNLEARNT)
    for row, each in enumerate(examples):
        ids[row, : len(each.ids)] = torch.tensor(each.ids)
        labels[row, : len(each.labels)] = torch.tensor(each.labels)
    following = labels[:, 1:]
    predicted = following != UNLEARNT
    which, place = predicted.nonzero(as_tuple=True)
    counts = tuple(predicted.sum(1).tolist())
    return Rows(ids, which * length + place, following[predicted], counts)
