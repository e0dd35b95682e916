"""Bit packing: small codes laid end to end in 32-bit words.

`hubq/runtime/unpacking.py` has the rule and the way back. On this way three rounds close the gaps
between eight codes, a byte each: neighbours move together, then pairs, then fours. Whatever the
width that is a dozen operations on an eighth as many integers, done in pieces that stay in the
processor's cache. Meta tensors pass through, so that a plan can count bytes.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from hubq.runtime.unpacking import BLOCK, LANES, PIECE, WORD_BITS, lane_mask, unpack_rows, words

__all__ = [
    "WORD_BITS",
    "pack",
    "pack_columns",
    "pack_fields",
    "pack_stream",
    "unpack",
    "unpack_columns",
    "words",
]


def pack(codes: Tensor, bits: int) -> Tensor:  # (rows, count) uint8 -> (rows, words) int32
    """Pack each row as a dense stream; the bits after its last code are zero."""
    rows, count = codes.shape
    length = 4 * words(count, bits)
    blocks = pad(codes, (0, -count % BLOCK)).flatten().view(-1, BLOCK)
    size = len(blocks) if blocks.is_meta else PIECE
    pieces = [_close_gaps(piece, bits) for piece in torch.split(blocks, size)]
    stream = torch.cat(pieces).view(rows, -1)
    stream = pad(stream, (0, max(0, length - stream.shape[1])))[:, :length]
    return stream.flatten().view(torch.int32).view(rows, -1)


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
    if not codes.numel():
        return torch.empty(0, dtype=torch.int32, device=codes.device)
    return pack(codes.reshape(1, -1), bits)[0]


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
    return numbers.view(torch.uint8)[:, :bits]
