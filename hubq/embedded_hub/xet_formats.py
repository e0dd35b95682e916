"""The formats of the Xet protocol, read without trust: its hashes, xorbs and shards.

From the public specification (huggingface.co/docs/xet: hashing, xorb, shard). Hashes are BLAKE3
with a key for each purpose, and a tree over chunks; in hex each group of eight bytes is reversed,
as four little-endian numbers would be. A xorb is a run of compressed chunks, up to 64 MiB: each is
an 8-byte header (version, compressed size, scheme, size) and its data: plain, LZ4, or LZ4 over
bytes that were grouped by their position modulo four. A shard is a client's account of which
chunks of which xorbs make up each file: records of 48 bytes, first those of files, then those of
xorbs, each part closed by a record of ones.
"""

import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import lz4.frame
from blake3 import blake3

from hubq.embedded_hub.refusals import bad_request

CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
TERM_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(32)
MEAN_BRANCHES = 4
MAX_BRANCHES = 2 * MEAN_BRANCHES + 1

MAX_XORB = 80 * 1024 * 1024  # 64 MiB of chunks, their headers and a footer
MAX_CONTENT = 64 * 1024 * 1024 + 1024 * 1024  # unpacked; the specification has 64 MiB
MAX_CHUNKS = 8 * 1024 + 1024  # the specification has 8 Ki
MAX_CHUNK = 128 * 1024
FOOTER = b"XETBLOB"  # older clients append an index of their own; ours is made here
PLAIN, LZ4, GROUPED_LZ4 = 0, 1, 2
_INDEX = struct.Struct("<32sIII")

RECORD = 48  # bytes of each in a shard
VERSION = 2  # of shards
HAS_PROOFS = 1 << 31
HAS_SHA256 = 1 << 30
BOOKEND = b"\xff" * 32
_HEADER = struct.Struct("<32sQQ")
_COUNTS = struct.Struct("<32sIIII")


class Node(NamedTuple):
    """A chunk, or a subtree of them: its hash and how many bytes of content lie below."""

    hash: bytes
    length: int


def write_hash(raw: bytes) -> str:
    """Write a hash in the hex of the protocol."""
    return "".join(raw[start : start + 8][::-1].hex() for start in range(0, 32, 8))


def hash_chunk(content: bytes) -> bytes:
    """Hash the content of a chunk."""
    return blake3(content, key=CHUNK_KEY).digest()


def hash_xorb(chunks: Sequence[Node]) -> bytes:
    """Hash a xorb: the root of the tree over its chunks."""
    if not chunks:
        return bytes(32)
    level = list(chunks)
    while len(level) > 1:
        level = _parents(level)
    return level[0].hash


def hash_file(chunks: Sequence[Node]) -> bytes:
    """Hash a file: the root of the tree over its chunks, hashed once more."""
    return blake3(hash_xorb(chunks), key=FILE_KEY).digest() if chunks else bytes(32)


def hash_term(chunks: Sequence[Node]) -> bytes:
    """Hash a run of chunks, as a shard proves that its sender knows them."""
    return blake3(b"".join(chunk.hash for chunk in chunks), key=TERM_KEY).digest()


def _parents(level: Sequence[Node]) -> list[Node]:
    parents, start = [], 0
    while start < len(level):
        end = start + _group_size(level[start : start + MAX_BRANCHES])
        parents.append(_merge(level[start:end]))
        start = end
    return parents


def _group_size(nodes: Sequence[Node]) -> int:
    """Cut after the first node, from the third on, whose hash is a multiple of four."""
    for index, node in enumerate(nodes[2:], start=2):
        if int.from_bytes(node.hash[24:], "little") % MEAN_BRANCHES == 0:
            return index + 1
    return len(nodes)


def _merge(nodes: Sequence[Node]) -> Node:
    lines = "".join(f"{write_hash(node.hash)} : {node.length}\n" for node in nodes)
    digest = blake3(lines.encode(), key=NODE_KEY).digest()
    return Node(digest, sum(node.length for node in nodes))


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


def scan_xorb(file: BinaryIO) -> list[Chunk]:
    """Read all chunks of a xorb and hash them; refuse one that cannot be unpacked."""
    chunks: list[Chunk] = []
    start = 0
    total = 0
    for content, end in unpack_xorb(file):
        total += len(content)
        if total > MAX_CONTENT or len(chunks) == MAX_CHUNKS:
            raise bad_request(f"The xorb holds over {MAX_CONTENT} bytes or {MAX_CHUNKS} chunks")
        chunks.append(Chunk(hash_chunk(content), start, end, len(content)))
        start = end
    if not chunks:
        raise bad_request("The xorb has no chunks")
    return chunks


def verify_xorb(chunks: list[Chunk], expected: str) -> None:
    """Refuse a xorb whose content does not hash to its name."""
    actual = write_hash(hash_xorb([chunk.node for chunk in chunks]))
    if actual != expected:
        raise bad_request(f"The xorb hashes to {actual}, not to {expected}")


def unpack_xorb(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
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
            raise bad_request("The xorb has a chunk of the wrong size")
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
        raise bad_request("A chunk of the xorb unpacks to the wrong size")
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


@dataclass(frozen=True)
class Term:
    """A run of chunks of one xorb, the end excluded, and its size in bytes when unpacked."""

    xorb: str
    start: int
    end: int
    length: int


@dataclass(frozen=True)
class ShardFile:
    """A file as its uploader describes it."""

    hash: str
    sha256: str
    terms: list[Term]
    proofs: list[bytes]


def read_shard(shard: bytes) -> list[ShardFile]:
    """Read the files of a shard, or refuse it. What it says about xorbs is not needed."""
    try:
        _, version, _ = _HEADER.unpack_from(shard)
        if version != VERSION:
            raise bad_request(f"The shard has version {version}, not {VERSION}")
        return list(_files(_records(shard)))
    except (struct.error, StopIteration) as error:
        raise bad_request("The shard ends too early") from error


def _records(shard: bytes) -> Iterator[bytes]:
    return (shard[at : at + RECORD] for at in range(RECORD, len(shard), RECORD))


def _files(records: Iterator[bytes]) -> Iterator[ShardFile]:
    # An iterator that runs dry must not look like the end of this generator: use a sentinel.
    while (record := next(records, b""))[:32] != BOOKEND:
        file_hash, flags, count, _, _ = _COUNTS.unpack(record)
        terms = [_term(next(records, b"")) for _ in range(count)]
        proofs = [next(records, b"")[:32] for _ in range(count)] if flags & HAS_PROOFS else []
        if not flags & HAS_SHA256:
            raise bad_request("The shard lacks the sha256 of a file")
        # The four numbers of this field are written like those of any other hash.
        sha256 = write_hash(next(records, b"").ljust(32, b"\0")[:32])
        yield ShardFile(write_hash(file_hash), sha256, terms, proofs)


def _term(record: bytes) -> Term:
    xorb, _, length, start, end = _COUNTS.unpack(record)
    return Term(write_hash(xorb), start, end, length)
