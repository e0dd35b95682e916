"""How a Xet client gets a file, or a range of one: which chunks to fetch from which xorbs."""

from collections.abc import Callable
from typing import Any

from hubq.embedded_hub.refusals import Refusal
from hubq.embedded_hub.xet import Xet
from hubq.embedded_hub.xet_formats import Chunk, Term

Address = Callable[[str, int, int], str]  # of a xorb, its first and last byte


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
