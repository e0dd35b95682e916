"""Bit streams back to numbers: codes of one width, fields of changing widths, coded bitmaps.

One rule serves every width: element i of a stream takes the bits [i * bits, (i + 1) * bits), the
lowest first, of little-endian 32-bit words. Eight codes of b bits fill b whole bytes. So eight
codes are read as one 64-bit integer, and three rounds open the gaps between them: fours move
apart, then pairs, then neighbours.
"""

from functools import lru_cache
from math import comb, gcd

import torch
from torch import Tensor
from torch.nn.functional import pad

from hubq.runtime.pieces import in_pieces, row_pieces

BLOCK = 8  # codes that fill whole bytes at any width
WORD_BITS = 32
LANES = (8, 16, 32)  # bits; in each round a lane's upper neighbour leaves it
UNITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their bytes
LINE = 4096  # codes of a stream, taken for a row: they fill whole words at any width

# The first word of a bitmap.
RAW, ALONG_ROWS, DOWN_COLUMNS = 0, 1, 2
FLAGS = 64  # in a block of a coded bitmap
COUNT_BITS, WIDTH_BITS = 7, 3  # of a run's least count, and of what its counts add to it


def words(count: int, bits: int) -> int:
    """Return how many 32-bit words hold so many codes."""
    return -(-count * bits // WORD_BITS)


def unpack_rows(packed: Tensor, bits: int, count: int) -> Tensor:  # (rows, words) int32 -> uint8
    """Return the (rows, count) codes of dense streams, one a row."""

    def codes(rows: slice) -> Tensor:
        stream = packed[rows].contiguous().view(torch.uint8)
        blocks = pad(stream, (0, -stream.shape[1] % bits)).view(-1, bits)
        return open_gaps(blocks, bits).view(len(stream), -1)[:, :count]

    return in_pieces(codes, (len(packed), count), packed.device, torch.uint8)


def unpack_stream(packed: Tensor, bits: int, count: int) -> Tensor:  # (words,) int32 -> uint8
    """Return the (count,) codes of one dense stream; raise ValueError for another length."""
    if packed.dtype != torch.int32 or packed.shape != (words(count, bits),):
        raise ValueError(
            f"{count} codes of {bits} bits fill {words(count, bits)} words of int32, "
            f"and there are {tuple(packed.shape)} of {packed.dtype}"
        )
    lines, rest = divmod(count, LINE)
    length = words(LINE, bits)
    codes = unpack_rows(packed[: lines * length].view(lines, length), bits, LINE).flatten()
    if not rest:
        return codes
    return torch.cat([codes, unpack_rows(packed[None, lines * length :], bits, rest)[0]])


def open_gaps(blocks: Tensor, bits: int) -> Tensor:  # (n, bits) -> (n, 8) bytes
    """Give each `bits` bits of a stream a byte of their own."""
    missing = (BLOCK - bits) // gcd(bits, BLOCK)
    numbers = pad(blocks.view(unit(bits)), (0, missing)).view(torch.int64)
    for lane in reversed(LANES):
        used = lane // 8 * bits
        upper = (numbers >> used) & lane_mask(used, 2 * lane)
        numbers = (numbers & lane_mask(used, 2 * lane)).bitwise_or_(upper << lane)
    return numbers.view(torch.uint8)


def unit(bits: int) -> torch.dtype:
    """Return the widest integers of which a block has a whole number, packed and unpacked."""
    return UNITS[gcd(bits, BLOCK)]


def lane_mask(used: int, lane: int) -> int:
    """Return 64 bits with the lower `used` bits of each lane set."""
    return sum(((1 << used) - 1) << start for start in range(0, 64, lane))


def unpack_bitmap(packed: Tensor, shape: tuple[int, int]) -> Tensor:  # (words,) int32 -> bool
    """Return a bitmap that lies raw or coded, as its first word says.

    The code is Cover's (1973): of each 64 flags it has the number of ones, and the index of the
    block among all blocks with so many. Numbers of ones are stored a run of blocks at a time, as
    what they add to the run's least.
    """
    out, columns = shape
    if packed.dtype != torch.int32 or not len(packed):
        raise ValueError(f"a bitmap of {packed.dtype} with {len(packed)} words has no first word")
    kind, stream = int(packed[0]), packed[1:]
    if kind not in (RAW, ALONG_ROWS, DOWN_COLUMNS):
        raise ValueError(f"a bitmap begins with {kind}, and 0, 1 or 2 is known")
    if kind != RAW:
        stream = decoded(stream, out * columns)
    flags = unpack_stream(stream, 1, out * columns).bool()
    return flags.view(columns, out).T.contiguous() if kind == DOWN_COLUMNS else flags.view(shape)


def decoded(coded: Tensor, flags: int) -> Tensor:  # (words,) int32
    """Return the raw stream of a coded bitmap."""
    run = int(coded[0]) if len(coded) else 0
    if run < 1:
        raise ValueError("a coded bitmap lacks the length of its runs")
    blocks = -(-flags // FLAGS)
    runs = -(-blocks // run)
    least, coded = _section(coded[1:], runs * COUNT_BITS)
    width, coded = _section(coded, runs * WIDTH_BITS)
    least, width = unpack_stream(least, COUNT_BITS, runs), unpack_stream(width, WIDTH_BITS, runs)
    widths = width.long().repeat_interleave(run)[:blocks]
    added, coded = _section(coded, int(widths.sum()))
    counts = least.long().repeat_interleave(run)[:blocks] + unpack_fields(added, widths)
    if blocks and int(counts.max()) > FLAGS:
        raise ValueError("a coded bitmap counts more than 64 ones in a block")
    index_widths = block_ways(counts.device, widths=True)[counts]
    indices, coded = _section(coded, int(index_widths.sum()))
    if len(coded):
        raise ValueError(f"a coded bitmap has {len(coded)} words too many")
    index = unpack_fields(indices, index_widths)
    pieces = row_pieces((blocks, BLOCK), index.device)
    found = [blocks_of(index[each], counts[each]) for each in pieces]
    raw = torch.cat(found or [index]).view(torch.int32)
    return raw[: words(flags, 1)]


def _section(coded: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Cut off the words that hold so many bits."""
    length = words(bits, 1)
    if len(coded) < length:
        raise ValueError(f"a coded bitmap ends {length - len(coded)} words too early")
    return coded[:length], coded[length:]


def unpack_fields(
    packed: Tensor, widths: Tensor
) -> Tensor:  # (words,) int32, (n,) int64 -> (n,) int64
    """Return fields that lie end to end, each at most 61 bits wide."""
    begin = widths.cumsum(0) - widths
    place, offset = begin // WORD_BITS, begin % WORD_BITS
    stream = pad(packed, (0, 3)).long() & 0xFFFFFFFF
    value = stream[place] >> offset
    value |= stream[place + 1] << (WORD_BITS - offset)
    value |= (stream[place + 2] << (63 - offset)) << 1  # in two steps: no shift is 64
    return value & ((torch.ones_like(widths) << widths) - 1)


def blocks_of(index: Tensor, count: Tensor) -> Tensor:  # (n,) int64 each
    """Return the blocks of 64 flags, a bit each, that have these indices among their like.

    The i-th one from below, at place p, adds C(p, i) to the index: the largest that fits is found
    from the top.
    """
    if bool((index >= block_ways(index.device)[count]).any()):
        raise ValueError("a coded bitmap has an index beyond the last block of its kind")
    ways = binomials(index.device)
    index, count, flags = index.clone(), count.clone(), torch.zeros_like(index)
    for place in range(FLAGS - 1, -1, -1):
        below = ways[place].index_select(0, count)
        here = (index >= below).long()
        index.sub_(below.mul_(here))
        count.sub_(here)
        flags.mul_(2).add_(here)
    return flags


@lru_cache(maxsize=4)
def binomials(device: torch.device) -> Tensor:  # (64, 65) int64
    """Return C(p, i) of each place below 64 and each i up to 64."""
    table = [[comb(place, chosen) for chosen in range(FLAGS + 1)] for place in range(FLAGS)]
    return torch.tensor(table, device=device)


@lru_cache(maxsize=8)
def block_ways(device: torch.device, widths: bool = False) -> Tensor:  # (65,) int64
    """Return how many blocks of 64 flags have each number of ones, or the bits that tell them."""
    found = [comb(FLAGS, count) for count in range(FLAGS + 1)]
    table = [(each - 1).bit_length() for each in found] if widths else found
    return torch.tensor(table, device=device)
