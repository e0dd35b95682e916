"""Xorbs: runs of compressed chunks, up to 64 MiB, as Xet clients upload them.

From the public specification (huggingface.co/docs/xet/xorb): each chunk is an 8-byte header
(version, compressed size, scheme, size) and its data: plain, LZ4, or LZ4 over bytes that were
grouped by their position modulo four.
"""

import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import lz4.frame

from hubq.embedded_hub.refusals import bad_request
from hubq.embedded_hub.xet_hashes import Node, hash_chunk, hash_xorb, write_hash

MAX_XORB = 80 * 1024 * 1024  # 64 MiB of chunks, their headers and a footer
MAX_CONTENT = 64 * 1024 * 1024 + 1024 * 1024  # unpacked; the specification has 64 MiB
MAX_CHUNKS = 8 * 1024 + 1024  # the specification has 8 Ki
MAX_CHUNK = 128 * 1024
FOOTER = b"XETBLOB"  # older clients append an index of their own; ours is made here
PLAIN, LZ4, GROUPED_LZ4 = 0, 1, 2

_INDEX = struct.Struct("<32sIII")


class Chunk(NamedTuple):
    """A chunk of a stored xorb: its hash, where it lies, and its size when unpacked."""

    hash: bytes
    start: int
    end: int
    length: int

    @property
    def node(self) -> Node:
        """The chunk as a leaf of a hash tree."""
        return Node(self.hash, self.length)


def scan(file: BinaryIO) -> list[Chunk]:
    """Read all chunks of a xorb and hash them; refuse one that cannot be unpacked."""
    chunks: list[Chunk] = []
    start = 0
    total = 0
    for content, end in unpack(file):
        total += len(content)
        if total > MAX_CONTENT or len(chunks) == MAX_CHUNKS:
            raise bad_request(f"The xorb holds over {MAX_CONTENT} bytes or {MAX_CHUNKS} chunks")
        chunks.append(Chunk(hash_chunk(content), start, end, len(content)))
        start = end
    if not chunks:
        raise bad_request("The xorb holds no chunk")
    return chunks


def verify(chunks: list[Chunk], expected: str) -> None:
    """Refuse a xorb whose content does not hash to its name."""
    actual = write_hash(hash_xorb([chunk.node for chunk in chunks]))
    if actual != expected:
        raise bad_request(f"The xorb hashes to {actual}, not to {expected}")


def unpack(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the content of each chunk and the offset at which it ends, one at a time."""
    position = file.tell()
    while header := file.read(8):
        if header.startswith(FOOTER):
            return
        if len(header) < 8 or header[0] != 0:
            raise bad_request("The xorb has a broken chunk header")
        packed = int.from_bytes(header[1:4], "little")
        length = int.from_bytes(header[5:8], "little")
        data = file.read(packed)
        if len(data) < packed or length > MAX_CHUNK or packed > 2 * MAX_CHUNK:
            raise bad_request("The xorb has a chunk of a wrong size")
        position += 8 + packed
        yield _decompress(data, header[4], length), position


def _decompress(data: bytes, scheme: int, length: int) -> bytes:
    if scheme == PLAIN:
        content = data
    elif scheme in (LZ4, GROUPED_LZ4):
        content = _lz4(data, length)
    else:
        raise bad_request(f"The xorb uses an unknown compression, {scheme}")
    if len(content) != length:
        raise bad_request("A chunk of the xorb unpacks to a wrong size")
    return _ungroup(content) if scheme == GROUPED_LZ4 else content


def _lz4(data: bytes, length: int) -> bytes:
    # Bounded, so that a small upload can't claim all memory.
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        return bytes(decompressor.decompress(data, max_length=length + 1))
    except RuntimeError as error:
        raise bad_request(f"A chunk of the xorb is not LZ4: {error}") from error


def _ungroup(grouped: bytes) -> bytes:
    """Put the bytes back that were grouped by their position modulo four."""
    content = bytearray(len(grouped))
    start = 0
    for group in range(4):
        size = (len(grouped) - group + 3) // 4
        content[group::4] = grouped[start : start + size]
        start += size
    return bytes(content)


def write_index(path: Path, chunks: list[Chunk]) -> None:
    """Save the list of a xorb's chunks, in one step."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.write_bytes(b"".join(_INDEX.pack(*chunk) for chunk in chunks))
    draft.replace(path)


def read_index(path: Path) -> list[Chunk]:
    """Load the list of a xorb's chunks."""
    return [Chunk(*values) for values in _INDEX.iter_unpack(path.read_bytes())]
