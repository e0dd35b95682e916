"""The Xet store: xorbs as they were uploaded, and how files are put together from them.

Nothing is taken on trust: a xorb is unpacked and must hash to its name; a file is rebuilt from its
chunks and must have the Xet hash and the sha256 that its uploader claims. The rebuilt file goes
to the object store too, so plain HTTP and git LFS clients can read it: a file uploaded through
Xet takes its size twice on disk. `reconstruct` tells a client which chunks make up a file.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hubq.embedded_hub.refusals import Refusal, bad_request
from hubq.embedded_hub.storage import Database, Incoming, Objects
from hubq.embedded_hub.xet_formats import (
    Chunk,
    ShardFile,
    Term,
    hash_file,
    hash_term,
    read_index,
    read_shard,
    scan_xorb,
    unpack_xorb,
    verify_xorb,
    write_hash,
    write_index,
)

Address = Callable[[str, int, int], str]  # of a xorb, its first and last byte


class Xet:
    """The xorbs and the files made of them."""

    def __init__(self, folder: Path, database: Database, objects: Objects) -> None:
        self.folder = folder
        self.database = database
        self.objects = objects

    def receive(self) -> Incoming:
        """Open a place for a xorb that arrives."""
        return Incoming(self.folder / "incoming")

    def path(self, xorb: str) -> Path:
        """Say where a xorb lives."""
        return self.folder / "xorbs" / xorb[:2] / xorb

    def chunks(self, xorb: str) -> list[Chunk]:
        """List the chunks of a stored xorb, or refuse a name that isn't here."""
        try:
            return read_index(self.path(xorb).with_suffix(".index"))
        except FileNotFoundError as error:
            raise bad_request(f"The xorb {xorb} was never uploaded") from error

    def keep(self, xorb: str, incoming: Incoming) -> bool:
        """Verify an uploaded xorb and keep it; tell whether it is new."""
        destination = self.path(xorb)
        if destination.exists():
            return False
        incoming.flush()
        with incoming.path.open("rb") as file:
            chunks = scan_xorb(file)
        verify_xorb(chunks, xorb)
        destination.parent.mkdir(parents=True, exist_ok=True)
        write_index(destination.with_suffix(".index"), chunks)
        incoming.keep(destination)
        return True

    def register(self, shard: bytes) -> list[str]:
        """Rebuild and keep the files that a shard describes; return their sha256s."""
        files = read_shard(shard)
        for file in files:
            self._check_hashes(file)
            if not self._is_known(file):
                self._rebuild(file)
        with self.database.transaction(write=True) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO xet_files VALUES (?, ?, ?, ?)",
                [(f.hash, f.sha256, _size(f.terms), _write_terms(f.terms)) for f in files],
            )
        return [file.sha256 for file in files]

    def hash_of(self, sha256: str) -> str | None:
        """Return the Xet hash of an object; None when it didn't come through Xet."""
        return self.hashes_of([sha256]).get(sha256)

    def hashes_of(self, sha256s: list[str]) -> dict[str, str]:
        """Map objects to their Xet hashes, those that came through Xet."""
        with self.database.transaction() as connection:
            rows = [
                connection.execute(
                    "SELECT sha256, hash FROM xet_files WHERE sha256 = ?", (sha256,)
                ).fetchone()
                for sha256 in sha256s
            ]
        return {row["sha256"]: row["hash"] for row in rows if row is not None}

    def find(self, file_hash: str) -> tuple[str, list[Term]]:
        """Return the sha256 and the terms of a file, or refuse an unknown hash."""
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT sha256, terms FROM xet_files WHERE hash = ?", (file_hash,)
            ).fetchone()
        if row is None:
            raise Refusal(404, f"There is no file with the Xet hash {file_hash}")
        return row["sha256"], [Term(**term) for term in json.loads(row["terms"])]

    def _is_known(self, file: ShardFile) -> bool:
        """Tell whether a file with this Xet hash was rebuilt before, and had this sha256."""
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT sha256 FROM xet_files WHERE hash = ?", (file.hash,)
            ).fetchone()
        return row is not None and row["sha256"] == file.sha256

    def _check_hashes(self, file: ShardFile) -> None:
        """Refuse a file whose Xet hash or proofs do not follow from its chunks."""
        runs = [self._run(term) for term in file.terms]
        nodes = [chunk.node for run in runs for chunk in run]
        if write_hash(hash_file(nodes)) != file.hash:
            raise bad_request(f"The chunks of file {file.hash} have another hash")
        expected = [hash_term([chunk.node for chunk in run]) for run in runs]
        if file.proofs != expected:
            raise bad_request(f"The range hashes of file {file.hash} are wrong")

    def _run(self, term: Term) -> list[Chunk]:
        run = self.chunks(term.xorb)[term.start : term.end]
        if (
            not run
            or len(run) != term.end - term.start
            or sum(c.length for c in run) != term.length
        ):
            raise bad_request(f"The xorb {term.xorb} has no such range of chunks")
        return run

    def _rebuild(self, file: ShardFile) -> None:
        # A few bytes of a shard may name one xorb a million times.
        if _size(file.terms) > shutil.disk_usage(self.folder).free:
            raise Refusal(507, "The file is larger than the free space on the hub's disk")
        with self.objects.receive() as incoming:
            for term in file.terms:
                for content in self._contents(term):
                    incoming.write(content)
            if incoming.sha256 != file.sha256:
                raise bad_request(
                    f"The file has the sha256 {incoming.sha256}, not {file.sha256} as claimed"
                )
            incoming.keep(self.objects.path(file.sha256))

    def _contents(self, term: Term) -> Iterator[bytes]:
        run = self._run(term)
        with self.path(term.xorb).open("rb") as xorb:
            xorb.seek(run[0].start)
            for _, (content, _) in zip(run, unpack_xorb(xorb), strict=False):
                yield content


def _size(terms: list[Term]) -> int:
    return sum(term.length for term in terms)


def _write_terms(terms: list[Term]) -> str:
    return json.dumps([dataclasses.asdict(term) for term in terms])


def reconstruct(
    xet: Xet, terms: list[Term], wanted: tuple[int, int | None] | None, address: Address
) -> dict[str, Any]:
    """Tell a client which chunks to fetch for a file, or for a range of its bytes.

    `wanted` is the first and the last byte, the last one included; `address` makes
    the URL of a range of a xorb.
    """
    first, last = wanted or (0, None)
    size = sum(term.length for term in terms)
    if first >= size > 0:
        raise Refusal(416, "The range starts after the end of the file")
    last = size - 1 if last is None else min(last, size - 1)
    pieces: list[tuple[Term, list[Chunk]]] = []
    skipped = 0
    position = 0
    for term in terms:
        if position <= last and position + term.length > first:
            run = xet.chunks(term.xorb)
            piece, cut = _trim(term, run, first - position, last - position)
            if not pieces:
                skipped = max(0, first - position - cut)
            pieces.append((piece, run))
        position += term.length
    return _answer(pieces, skipped, address)


def _trim(term: Term, chunks: list[Chunk], first: int, last: int) -> tuple[Term, int]:
    """Drop the chunks of a term before `first` and after `last`; say how many bytes went first."""
    start, end, cut = term.start, term.end, 0
    while start + 1 < end and cut + chunks[start].length <= first:
        cut += chunks[start].length
        start += 1
    tail = term.length
    while end - 1 > start and tail - chunks[end - 1].length > last:
        end -= 1
        tail -= chunks[end].length
    return Term(term.xorb, start, end, tail - cut), cut


def _answer(
    pieces: list[tuple[Term, list[Chunk]]], skipped: int, address: Address
) -> dict[str, Any]:
    fetch: dict[str, list[dict[str, Any]]] = {}
    for term, chunks in pieces:
        first, last = chunks[term.start].start, chunks[term.end - 1].end - 1
        fetched = {
            "range": {"start": term.start, "end": term.end},
            "url": address(term.xorb, first, last),
            "url_range": {"start": first, "end": last},
        }
        ranges = fetch.setdefault(term.xorb, [])
        if fetched not in ranges:
            ranges.append(fetched)
    return {
        "offset_into_first_range": skipped,
        "terms": [
            {
                "hash": term.xorb,
                "unpacked_length": term.length,
                "range": {"start": term.start, "end": term.end},
            }
            for term, _ in pieces
        ],
        "fetch_info": fetch,
    }
