"""Codes and bitmaps in as few bits as they need.

`hubq/runtime/unpacking.py` has the rules and the way back. Here three rounds close the gaps
between eight codes, a byte each: neighbours move together, then pairs, then fours. Whatever the
width that is a dozen operations on an eighth as many integers, done piece by piece. Meta tensors
pass through, so that a plan can count bytes.

A bitmap is kept raw, or coded after Cover (1973), whichever is shorter: of each 64 flags the code
has the number of ones and the index among all blocks with so many. Ones that gather in some
columns, as salient weights do, make blocks down the columns cheaper than blocks along the rows:
both are tried.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from math import comb, gcd

import torch
from torch import Tensor
from torch.nn.functional import pad

from hubq.runtime.pieces import row_pieces
from hubq.runtime.unpacking import (
    ALONG_ROWS,
    BLOCK,
    COUNT_BITS,
    DOWN_COLUMNS,
    FLAGS,
    LANES,
    LINE,
    RAW,
    WIDTH_BITS,
    WORD_BITS,
    binomials,
    block_ways,
    lane_mask,
    unit,
    unpack_rows,
    words,
)

__all__ = [
    "WORD_BITS",
    "bitmap_words",
    "pack",
    "pack_bitmap",
    "pack_columns",
    "pack_fields",
    "pack_stream",
    "unpack",
    "unpack_columns",
    "words",
]

RUNS = (8, 16, 32, 64)  # blocks that share their least count: those that are tried


def pack(codes: Tensor, bits: int) -> Tensor:  # (rows, count) uint8 -> (rows, words) int32
    """Pack each row as a dense stream; the bits after its last code are zero."""
    rows, count = codes.shape
    shape = (rows, words(count, bits))
    if codes.is_meta:
        return torch.empty(shape, dtype=torch.int32, device="meta")
    packed = torch.empty(shape, dtype=torch.int32, device=codes.device)
    stream = packed.view(torch.uint8)
    for here in row_pieces((rows, count), codes.device):
        blocks = pad(codes[here], (0, -count % BLOCK)).reshape(-1, BLOCK)
        closed = _close_gaps(blocks, bits).view(here.stop - here.start, -1)
        stream[here, : closed.shape[1]] = closed[:, : stream.shape[1]]
        stream[here, closed.shape[1] :] = 0
    return packed


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:  # (rows, words) int32 -> uint8
    """Return the (rows, count) codes of dense streams, one a row."""
    if packed.is_meta:
        return torch.empty(packed.shape[0], count, dtype=torch.uint8, device="meta")
    return unpack_rows(packed, bits, count)


def pack_columns(codes: Tensor, bits: int) -> Tensor:  # (count, columns) -> (words, columns)
    """Pack each column as a dense stream, down the rows."""
    return pack(codes.T, bits).T.contiguous()


def unpack_columns(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the (count, columns) codes that `pack_columns` packed."""
    return unpack(packed.T, bits, count).T.contiguous()


def pack_stream(codes: Tensor, bits: int) -> Tensor:  # any shape, uint8 -> (words,) int32
    """Pack a whole tensor as one dense stream."""
    flat = codes.reshape(-1)
    lines, rest = divmod(len(flat), LINE)
    stream = pack(flat[: lines * LINE].view(lines, LINE), bits).flatten()
    return torch.cat([stream, pack(flat[None, lines * LINE :], bits)[0]]) if rest else stream


def pack_fields(values: Tensor, widths: Tensor) -> Tensor:  # (n,) int64 each -> (words,) int32
    """Lay numbers end to end, each at its own width of at most 61 bits."""
    begin = widths.cumsum(0) - widths
    place, offset = begin // WORD_BITS, begin % WORD_BITS
    stream = torch.zeros(words(int(widths.sum()), 1) + 3, dtype=torch.int64, device=values.device)
    parts = (
        values << offset,
        values >> (WORD_BITS - offset),
        (values >> (63 - offset)) >> 1,  # in two steps: no shift is 64
    )
    for number, part in enumerate(parts):
        stream.index_add_(0, place + number, part & 0xFFFFFFFF)  # no two fields share a bit
    return stream[:-3].to(torch.int32)


def _close_gaps(blocks: Tensor, bits: int) -> Tensor:  # (n, 8) -> (n, bits) bytes
    """Lay the lower `bits` bits of eight bytes end to end."""
    numbers = blocks.view(torch.int64)
    for lane in LANES:
        used = lane // 8 * bits
        upper = (numbers >> lane) & lane_mask(used, 2 * lane)
        numbers = (numbers & lane_mask(used, 2 * lane)).bitwise_or_(upper << used)
    filled = numbers.view(unit(bits))[:, : bits // gcd(bits, BLOCK)]
    return filled.contiguous().view(torch.uint8)


def pack_bitmap(flags: Tensor) -> Tensor:  # (out, in) bool -> (words,) int32
    """Pack a bitmap in the shortest way that there is."""
    raw = torch.cat([_words(flags, RAW), pack_stream(flags.to(torch.uint8), 1)])
    best = min(_ways(flags), key=lambda way: way.words, default=None)
    return raw if best is None or best.words >= len(raw) else best.packed()


def bitmap_words(flags: Tensor, ones: int | None = None) -> int:
    """Return the words that `pack_bitmap` would take.

    Without data, so many ones are taken to lie anywhere, each place as likely as another.
    """
    raw: int = 1 + words(flags.numel(), 1)
    if flags.is_meta:
        return raw if ones is None else min(raw, _estimate(flags.numel(), ones))
    return min([raw, *(way.words for way in _ways(flags))])


class _Coding:
    """One way to code a bitmap."""

    def __init__(self, kind: int, blocks: Tensor, counts: Tensor, run: int) -> None:
        self.kind = kind
        self.blocks = blocks  # (n,) int64, a flag a bit
        self.counts = counts  # (n,) int64
        self.run = run
        padded = pad(counts[None].float(), (0, -len(counts) % run), mode="replicate").long()
        least, most = padded.view(-1, run).aminmax(dim=1)
        self.least = least
        self.run_widths = _widths(most - least)
        self.widths = self.run_widths.repeat_interleave(run)[: len(counts)]
        self.index_widths = block_ways(counts.device, widths=True)[counts]

    @property
    def words(self) -> int:
        """The words that it takes."""
        runs = len(self.least)
        fields = (self.widths.sum(), self.index_widths.sum())
        heads = words(runs, COUNT_BITS) + words(runs, WIDTH_BITS)
        return 2 + heads + sum(words(int(bits), 1) for bits in fields)

    def packed(self) -> Tensor:
        """Return the words."""
        least = self.least.repeat_interleave(self.run)[: len(self.counts)]
        return torch.cat(
            [
                _words(self.counts, self.kind, self.run),
                pack_stream(self.least.to(torch.uint8), COUNT_BITS),
                pack_stream(self.run_widths.to(torch.uint8), WIDTH_BITS),
                pack_fields(self.counts - least, self.widths),
                pack_fields(self._indices(), self.index_widths),
            ]
        )

    def _indices(self) -> Tensor:
        pieces = row_pieces((len(self.blocks), BLOCK), self.blocks.device)
        return torch.cat([_indices(self.blocks[each]) for each in pieces])


def _ways(flags: Tensor) -> Iterator[_Coding]:
    """Yield each way to code a bitmap; an empty one has none."""
    if not flags.numel():
        return
    for kind, ordered in ((ALONG_ROWS, flags), (DOWN_COLUMNS, flags.T)):
        stream = pack_stream(ordered.to(torch.uint8), 1)
        blocks = pad(stream, (0, len(stream) % 2)).view(torch.int64)
        counts = _ones(blocks)
        for run in RUNS:
            yield _Coding(kind, blocks, counts, run)


def _ones(blocks: Tensor) -> Tensor:  # (n,) int64
    """Count the ones of each 64 bits: of pairs, of fours, of bytes, and of all bytes together."""
    found = blocks - ((blocks >> 1) & lane_mask(1, 2))
    found = (found & lane_mask(2, 4)) + ((found >> 2) & lane_mask(2, 4))
    found = (found + (found >> 4)) & lane_mask(4, 8)
    return (found * lane_mask(1, 8)) >> 56


def _indices(blocks: Tensor) -> Tensor:  # (n,) int64
    """Return the index of each block: C(p, i) for its i-th one from below, at place p, summed."""
    ways = binomials(blocks.device)
    index, ones = torch.zeros_like(blocks), torch.zeros_like(blocks)
    for place in range(FLAGS):
        here = (blocks >> place) & 1
        ones.add_(here)
        index.add_(ways[place].index_select(0, ones).mul_(here))
    return index


def _widths(numbers: Tensor) -> Tensor:
    """Return the bits that each number up to 64 takes."""
    table = torch.tensor([each.bit_length() for each in range(FLAGS + 1)], device=numbers.device)
    return table[numbers]


def _words(like: Tensor, *values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=like.device)


@lru_cache(maxsize=64)
def _estimate(flags: int, ones: int) -> int:
    """Return about how many words a bitmap takes whose ones lie anywhere."""
    share = ones / flags if flags else 0.0
    chances: list[float] = [
        comb(FLAGS, count) * share**count * (1 - share) ** (FLAGS - count)
        for count in range(FLAGS + 1)
    ]
    ways = [(comb(FLAGS, count) - 1).bit_length() for count in range(FLAGS + 1)]
    index = sum(chance * bits for chance, bits in zip(chances, ways, strict=True))
    count = min(_run_width(chances, run) + (COUNT_BITS + WIDTH_BITS) / run for run in RUNS)
    return 6 + round(flags / FLAGS * (index + count) / 32)


def _run_width(chances: list[float], run: int) -> float:
    """Return the bits that a run's counts will take each, given the chances of each count.

    That all counts of a run lie from `least` to `most` has the chance of one to the run's power;
    that they reach both ends follows by taking off those that don't.
    """
    below = [0.0, *accumulate(chances)]

    def within(least: int, most: int) -> float:
        return (below[most + 1] - below[least]) ** run if least <= most else 0.0

    return sum(
        (most - least).bit_length()
        * (
            within(least, most)
            - within(least + 1, most)
            - within(least, most - 1)
            + within(least + 1, most - 1)
        )
        for least in range(FLAGS + 1)
        for most in range(least + 1, FLAGS + 1)
    )
