"""Bit packing: small codes laid end to end in 32-bit words, and back.

One rule serves every width: element i of a row takes the bits [i * bits, (i + 1) * bits) of the
row's little-endian bit stream. Eight codes of b bits fill b whole bytes. So eight codes, a byte
each, are read as one 64-bit integer, and three rounds close the gaps between them: neighbours move
together, then pairs, then fours. The way back opens the same gaps in reverse. Whatever the width
that is a dozen passes over an eighth as many integers, and meta tensors pass through.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 8  # codes that fill whole bytes at any width
WORD_BITS = 32
_LANES = (8, 16, 32)  # bits; in each round a lane's upper neighbour joins it


def words(count: int, bits: int) -> int:
    """Return how many 32-bit words hold so many codes."""
    return -(-count * bits // WORD_BITS)


def pack(codes: Tensor, bits: int) -> Tensor:  # (rows, count) uint8 -> (rows, words) int32
    """Pack each row as a dense stream; the bits after its last code are zero."""
    rows, count = codes.shape
    length = 4 * words(count, bits)
    stream = _close_gaps(pad(codes, (0, -count % BLOCK)).flatten(), bits).view(rows, -1)
    stream = pad(stream, (0, max(0, length - stream.shape[1])))[:, :length]
    return stream.flatten().view(torch.int32).view(rows, -1)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:  # (rows, words) int32 -> uint8
    """Return the (rows, count) codes of a dense stream."""
    stream = packed.flatten().view(torch.uint8).view(packed.shape[0], -1)
    stream = pad(stream, (0, -stream.shape[1] % bits))
    codes = _open_gaps(stream.flatten(), bits).view(packed.shape[0], -1)
    return codes[:, :count].contiguous()


def pack_columns(codes: Tensor, bits: int) -> Tensor:  # (count, columns) -> (words, columns)
    """Pack each column as a dense stream, down the rows."""
    return pack(codes.T, bits).T.contiguous()


def unpack_columns(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the (count, columns) codes that `pack_columns` packed."""
    return unpack(packed.T, bits, count).T.contiguous()


def _close_gaps(codes: Tensor, bits: int) -> Tensor:  # (8n,) -> (n * bits,) bytes
    """Keep the lower `bits` bits of each byte, laid end to end."""
    blocks = codes.view(torch.int64)
    for lane in _LANES:
        used = lane // 8 * bits
        upper = (blocks >> lane) & _mask(used, 2 * lane)
        blocks = (blocks & _mask(used, 2 * lane)).bitwise_or_(upper << used)
    return blocks.unsqueeze(1).view(torch.uint8)[:, :bits].flatten()


def _open_gaps(stream: Tensor, bits: int) -> Tensor:  # (n * bits,) -> (8n,) bytes
    """Give each `bits` bits of the stream a byte of their own."""
    blocks = pad(stream.view(-1, bits), (0, BLOCK - bits)).flatten().view(torch.int64)
    for lane in reversed(_LANES):
        used = lane // 8 * bits
        upper = (blocks >> used) & _mask(used, 2 * lane)
        blocks = (blocks & _mask(used, 2 * lane)).bitwise_or_(upper << lane)
    return blocks.view(torch.uint8)


def _mask(used: int, lane: int) -> int:
    """Return 64 bits with the lower `used` bits of each lane set."""
    return sum(((1 << used) - 1) << start for start in range(0, 64, lane))
