"""Bit packing: small codes laid end to end in 32-bit words, and back.

One rule serves every width: element i of a row takes the bits [i * bits, (i + 1) * bits) of the
row's little-endian bit stream. Eight codes of b bits fill b whole bytes. So eight codes, a byte
each, are read as one 64-bit integer, and three rounds close the gaps between them: neighbours move
together, then pairs, then fours. The way back opens the same gaps in reverse. Whatever the width
that is a dozen operations on an eighth as many integers, done in pieces that stay in the
processor's cache. Meta tensors pass through, so that a plan can count bytes.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 8  # codes that fill whole bytes at any width
WORD_BITS = 32
_PIECE = 1 << 15  # blocks at a time: 256 KB as codes
_LANES = (8, 16, 32)  # bits; in each round a lane's upper neighbour joins it


def words(count: int, bits: int) -> int:
    """Return how many 32-bit words hold so many codes."""
    return -(-count * bits // WORD_BITS)


def pack(codes: Tensor, bits: int) -> Tensor:  # (rows, count) uint8 -> (rows, words) int32
    """Pack each row as a dense stream; the bits after its last code are zero."""
    rows, count = codes.shape
    length = 4 * words(count, bits)
    blocks = pad(codes, (0, -count % BLOCK)).flatten().view(-1, BLOCK)
    stream = _by_piece(_close_gaps, blocks, bits).view(rows, -1)
    stream = pad(stream, (0, max(0, length - stream.shape[1])))[:, :length]
    return stream.flatten().view(torch.int32).view(rows, -1)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:  # (rows, words) int32 -> uint8
    """Return the (rows, count) codes of a dense stream."""
    rows = packed.shape[0]
    stream = packed.flatten().view(torch.uint8).view(rows, -1)
    blocks = pad(stream, (0, -stream.shape[1] % bits)).flatten().view(-1, bits)
    codes = _by_piece(_open_gaps, blocks, bits).view(rows, -1)
    return codes[:, :count].contiguous()


def pack_columns(codes: Tensor, bits: int) -> Tensor:  # (count, columns) -> (words, columns)
    """Pack each column as a dense stream, down the rows."""
    return pack(codes.T, bits).T.contiguous()


def unpack_columns(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the (count, columns) codes that `pack_columns` packed."""
    return unpack(packed.T, bits, count).T.contiguous()


def _by_piece(move: Callable[[Tensor, int], Tensor], blocks: Tensor, bits: int) -> Tensor:
    """Move the bits of a long list of blocks, some at a time."""
    size = len(blocks) if blocks.is_meta else _PIECE
    return torch.cat([move(piece, bits) for piece in torch.split(blocks, size)])


def _close_gaps(blocks: Tensor, bits: int) -> Tensor:  # (n, 8) -> (n, bits) bytes
    """Lay the lower `bits` bits of eight bytes end to end."""
    numbers = blocks.view(torch.int64)
    for lane in _LANES:
        used = lane // 8 * bits
        upper = (numbers >> lane) & _mask(used, 2 * lane)
        numbers = (numbers & _mask(used, 2 * lane)).bitwise_or_(upper << used)
    return numbers.view(torch.uint8)[:, :bits]


def _open_gaps(blocks: Tensor, bits: int) -> Tensor:  # (n, bits) -> (n, 8) bytes
    """Give each `bits` bits of a stream a byte of their own."""
    numbers = pad(blocks, (0, BLOCK - bits)).view(torch.int64)
    for lane in reversed(_LANES):
        used = lane // 8 * bits
        upper = (numbers >> used) & _mask(used, 2 * lane)
        numbers = (numbers & _mask(used, 2 * lane)).bitwise_or_(upper << lane)
    return numbers.view(torch.uint8)


def _mask(used: int, lane: int) -> int:
    """Return 64 bits with the lower `used` bits of each lane set."""
    return sum(((1 << used) - 1) << start for start in range(0, 64, lane))
