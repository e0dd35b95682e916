"""The hashes of the Xet protocol: BLAKE3 with a key for each purpose, and a tree over chunks.

From the public specification (huggingface.co/docs/xet/hashing). A hash is written in hex with
each group of eight bytes reversed, as four little-endian numbers would be.
"""

from collections.abc import Sequence
from typing import NamedTuple

from blake3 import blake3

CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
TERM_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(32)

MEAN_BRANCHES = 4
MAX_BRANCHES = 2 * MEAN_BRANCHES + 1


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
