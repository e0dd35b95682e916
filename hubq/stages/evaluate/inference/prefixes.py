"""What sequences have in common, so that a model runs each distinct token once.

In lexicographic order, sequences are a tree: what one shares with the one before it is the same
path from the root. A tree that is small, or that shares much, is run whole in one row, where each
token sees its own path only. Where more hangs on a shared beginning than fits in a row, such as a
thousand questions on the same examples, that beginning is run once as a prefix, and what hangs on
it goes on from its keys and values.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

MASKABLE = "sdpa"  # attention that takes a mask of ours, and what transformers chooses
SMALL = 128  # tokens: attention within so short a row costs nothing beside the rest
LARGE = 1024  # of the largest tree in one row: attention grows with the row
WORTH = 1 / 4  # of a tree's tokens must be saved for it to be larger than SMALL
PREFIX_COST = 512  # tokens that a prefix must save: it is a forward pass more, and a batch more


class PrefixCache:
    """A prefix's keys and values; it grows, and is cut back, as what hangs on it asks."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers carries no types
        self.model = model
        self.depth = 0  # tokens
        self.layers: list[tuple[Tensor, Tensor]] = []  # each (1, heads, depth, size of a head)

    def grow(self, kept: int, ids: list[int]) -> None:
        """Cut the prefix back to its first tokens, then run more behind them."""
        import torch

        self.cut(kept)
        if ids:
            cache = self.cache(rows=1)
            given = torch.tensor([ids], device=self.model.device)
            self.model.get_decoder()(input_ids=given, past_key_values=cache, use_cache=True)
            self.take(cache, len(ids))

    def cut(self, kept: int) -> None:
        """Cut the prefix back to its first tokens."""
        self.layers = [(keys[:, :, :kept], values[:, :, :kept]) for keys, values in self.layers]
        self.depth = kept

    def take(self, cache: Any, tokens: int) -> None:  # noqa: ANN401 - its layers have no types
        """Take over so many tokens that a run of one row has added to a cache of the prefix."""
        self.layers = [(layer.keys, layer.values) for layer in cache.layers]
        self.depth += tokens

    def cache(self, rows: int) -> "DynamicCache":
        """Return what a batch of so many rows goes on from."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for index, layer in enumerate(self.layers if self.depth else []):
            keys, values = (kept.expand(rows, -1, -1, -1) for kept in layer)
            cache.update(keys, values, index)
        return cache


def longest_masked(model: Any) -> int:  # noqa: ANN401 - a transformers model
    """Return how long a sequence may be for a mask of ours to say all that its tokens see.

    Attention with a window sees less than the whole sequence, which such a mask would show it;
    other implementations take no such mask, or another.
    """
    config = model.config.get_text_config()
    if config._attn_implementation != MASKABLE:
        return 0
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((window for window in windows if window), default=1 << 62)


class Sequence(NamedTuple):
    """Tokens to score: the last ones, given those before them."""

    inputs: list[int]  # all but the last, which predicts nothing that is asked for
    targets: list[int]  # what the last inputs should predict
    number: int  # its place among all that were asked for


class Tree(NamedTuple):
    """Sequences in lexicographic order that are run together, from a depth on."""

    sequences: list[Sequence]
    shared: list[int]  # tokens that each shares with the one before it; first the depth
    size: int  # distinct tokens from the depth on

    @property
    def is_chain(self) -> bool:
        """Tell whether each sequence continues the one before it: nothing branches."""
        return self.size == len(self.sequences[-1].inputs) - self.shared[0]


class Part(NamedTuple):
    """A prefix, as the first tokens of the one before and more, and the trees that hang on it."""

    kept: int
    prefix: list[int]
    trees: list[Tree]

    @property
    def depth(self) -> int:
        """Return the tokens before the trees."""
        return self.kept + len(self.prefix)


def parts(sequences: Iterable[Sequence], longest: int) -> Iterator[Part]:
    """Divide sequences into parts, in an order in which each prefix begins as the one before it.

    Sequences of more than `longest` inputs share with none that branches off them.
    """
    order = sorted(sequences)
    shared = [0, *(common(one.inputs, other.inputs) for one, other in pairwise(order))]
    pending = [(Tree(order, shared, _size(order, shared)), 0)]
    while pending:
        whole, depth = pending.pop()
        kept = whole.shared[0]
        trees, stems = _divided(_below(whole, depth), longest)
        yield Part(kept, whole.sequences[0].inputs[kept:depth] if depth else [], trees)
        pending += stems


def _divided(whole: Tree, longest: int) -> tuple[list[Tree], list[tuple[Tree, int]]]:
    """Divide a tree into those that are run whole, and those that hang on a longer prefix."""
    trees, stems = [], []
    pending = [whole] if whole.sequences else []
    while pending:
        tree = pending.pop()
        fork = min(tree.shared[1:], default=0)
        maskable = max(len(each.inputs) for each in tree.sequences) <= longest
        reach = min(fork, *(len(each.inputs) - len(each.targets) for each in tree.sequences))
        if tree.is_chain or (maskable and _is_worth_a_row(tree, fork)):
            trees.append(tree)
        elif maskable and _saved(tree, reach) >= PREFIX_COST:
            stems.append((tree, reach))
        else:
            pending += _branches(tree, fork)
    return trees, stems


def _is_worth_a_row(tree: Tree, fork: int) -> bool:
    """Tell whether a tree is small, or saves enough by what is before its first fork."""
    saved = _saved(tree, fork)
    return tree.size <= SMALL or (tree.size <= LARGE and saved >= WORTH * (tree.size + saved))


def _saved(tree: Tree, reach: int) -> int:
    """Count the tokens down to some depth that the branches of the first fork share."""
    return (reach - tree.shared[0]) * tree.shared[1:].count(min(tree.shared[1:]))


def _branches(tree: Tree, fork: int) -> Iterator[Tree]:
    """Cut a tree where its sequences have no more than its first fork in common."""
    depth, shared = tree.shared[0], tree.shared
    cuts = [0, *(at for at in range(1, len(shared)) if shared[at] == fork), len(shared)]
    for begin, end in pairwise(cuts):
        own = [depth, *shared[begin + 1 : end]]
        sequences = tree.sequences[begin:end]
        yield Tree(sequences, own, _size(sequences, own))


def _below(tree: Tree, depth: int) -> Tree:
    """Return a tree from a greater depth on."""
    return Tree(tree.sequences, [depth, *tree.shared[1:]], tree.size - depth + tree.shared[0])


def _size(sequences: list[Sequence], shared: list[int]) -> int:
    """Count distinct tokens."""
    return sum(len(each.inputs) for each in sequences) - sum(shared)


def common(one: list[int], other: list[int]) -> int:
    """Count the tokens at the beginning that are the same."""
    for at, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return at
    return min(len(one), len(other))
