"""Trees of sequences as batches of tensors: whole trees beside one another, little padding.

In a row of several trees, or of one that branches, a mask shows each token its own path. A sequence
that nothing branches off is a row of its own without a mask, unless it is short: attention then
skips what comes later, which a mask would only hide. Behind a prefix, whose keys and values are
copied for each row, that pays for long sequences only.
"""

from collections.abc import Iterator
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hubq.stages.evaluate.inference.prefixes import Sequence, Tree

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SHORTEST_ROW = 128  # tokens: room for several small trees, so that little of it stays empty
LONG = 64  # tokens of a chain that is worth a row without a mask
LONG_BEHIND_STEM = 512


class Scored(NamedTuple):
    """One token to score."""

    place: int  # in the batch, counted through all rows: what predicts it
    target: int
    number: int  # of its sequence


class Batch(NamedTuple):
    """Equally long rows for one forward pass."""

    ids: "Tensor"  # (rows, length)
    positions: "Tensor | None"  # (rows, length), or None: one after the other
    sees: "Tensor | None"  # (rows, 1, length, depth + length), true where attention may look
    scored: list[Scored]


def batches(trees: list[Tree], depth: int, longest: int, tokens: int) -> Iterator[Batch]:
    """Lay trees that begin at the same depth into batches of about so many tokens.

    Sequences of more than `longest` inputs are alone in their rows.
    """
    long = LONG_BEHIND_STEM if depth else LONG
    alone = [
        tree.is_chain and (tree.size > long or len(tree.sequences[-1].inputs) > longest)
        for tree in trees
    ]
    for rows in _by_length(list(compress(trees, alone)), tokens):
        yield _unmasked(rows, depth)
    others = [tree for tree, by_itself in zip(trees, alone, strict=True) if not by_itself]
    for packed in _packed(others, max(SHORTEST_ROW, depth), tokens):
        yield _masked(packed, depth)


def _by_length(chains: list[Tree], tokens: int) -> Iterator[list[Tree]]:
    """Yield chains of similar length together, the longest first."""
    left = sorted(chains, key=lambda chain: -chain.size)
    while left:
        rows = max(1, tokens // left[0].size)
        yield left[:rows]
        left = left[rows:]


def _packed(trees: list[Tree], shortest: int, tokens: int) -> Iterator[list[list[Tree]]]:
    """Yield rows of trees: each tree, the largest first, goes where there is room."""
    left = sorted(trees, key=lambda tree: -tree.size)
    while left:
        length = max(shortest, left[0].size)
        rows: list[list[Tree]] = [[] for _ in range(max(1, tokens // length))]
        room, rest = [length] * len(rows), []
        for tree in left:
            if tree.size > max(room):
                rest.append(tree)
            else:
                row = next(row for row, free in enumerate(room) if tree.size <= free)
                rows[row].append(tree)
                room[row] -= tree.size
        yield [row for row in rows if row]
        left = rest


def _unmasked(chains: list[Tree], depth: int) -> Batch:
    """Put each chain in a row; what follows its end is not seen by it."""
    import torch

    length = chains[0].size
    inputs = [chain.sequences[-1].inputs[depth:] for chain in chains]
    ids = [row + row[:1] * (length - len(row)) for row in inputs]
    scored = [
        Scored(row * length + at - depth, target, sequence.number)
        for row, chain in enumerate(chains)
        for sequence in chain.sequences
        for at, target in _targets(sequence)
    ]
    return Batch(torch.tensor(ids), None, None, scored)


def _masked(rows: list[list[Tree]], depth: int) -> Batch:
    """Put several trees in each row; padding repeats the row's first token and sees itself."""
    import torch

    length = max(sum(tree.size for tree in row) for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    positions = np.full((len(rows), length), depth)
    sees = np.zeros((len(rows), length, depth + length), dtype=np.bool_)
    sees[:, :, :depth] = True
    sees[:, range(length), range(depth, depth + length)] = True
    scored: list[Scored] = []
    for number, row in enumerate(rows):
        ids[number] = row[0].sequences[0].inputs[depth]
        begin = 0
        for tree in row:
            end = begin + tree.size
            window = sees[number, begin:end, depth + begin : depth + end]
            places = _grow(tree, ids[number, begin:end], positions[number, begin:end], window)
            first = number * length + begin
            scored += [each._replace(place=first + each.place) for each in places]
            begin = end
    given, at, mask = map(torch.from_numpy, (ids, positions, sees[:, None]))
    return Batch(given, at, mask, scored)


def _grow(
    tree: Tree,
    ids: "NDArray[np.int64]",  # (size,), and so are positions
    positions: "NDArray[np.int64]",
    sees: "NDArray[np.bool_]",  # (size, size)
) -> list[Scored]:
    """Write a tree's tokens, sequence by sequence, and return what is scored there."""
    depth, end = tree.shared[0], 0
    path = np.zeros(0, dtype=np.int64)  # of the last sequence: where its tokens lie
    scored = []
    for sequence, shared in zip(tree.sequences, tree.shared, strict=True):
        fresh = len(sequence.inputs) - shared
        new = np.arange(end, end + fresh)
        path = np.concatenate([path[: shared - depth], new])
        ids[new] = sequence.inputs[shared:]
        positions[new] = np.arange(shared, shared + fresh)
        sees[new[:, None], path[: shared - depth]] = True
        sees[end : end + fresh, end : end + fresh] = np.tri(fresh, dtype=np.bool_)
        scored += [
            Scored(int(path[at - depth]), target, sequence.number)
            for at, target in _targets(sequence)
        ]
        end += fresh
    return scored


def _targets(sequence: Sequence) -> Iterator[tuple[int, int]]:
    """Yield what is scored: the depth of the token that predicts it, and the token."""
    first = len(sequence.inputs) - len(sequence.targets)
    return enumerate(sequence.targets, first)
