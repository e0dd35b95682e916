"""Shards: a Xet client's account of which chunks of which xorbs make up each file.

From the public specification (huggingface.co/docs/xet/shard): records of 48 bytes, first those of
files, then those of xorbs, each part closed by a record of ones.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hubq.embedded_hub.refusals import bad_request
from hubq.embedded_hub.xet_hashes import write_hash

RECORD = 48
VERSION = 2
HAS_PROOFS = 1 << 31
HAS_SHA256 = 1 << 30
BOOKEND = b"\xff" * 32

_HEADER = struct.Struct("<32sQQ")
_COUNTS = struct.Struct("<32sIIII")


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


def parse(shard: bytes) -> list[ShardFile]:
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
