"""The first rows of a data set on the Hub, looked at without fetching the file that they are in.

A wrong field is told before anything is computed. What only the whole file could show (a list in
one JSON value, a packed file that is damaged further on) is told when it is read.
"""

import csv
import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.sources.texts.corpus import FIRST
from hubq.sources.texts.documents import (
    SEPARATORS,
    Reading,
    Row,
    columns,
    form_of,
    require_column,
    texts,
)
from hubq.sources.texts.hub_files import Pinned
from hubq.sources.texts.lines import BYTE_ORDER_MARK, LONGEST, PACKED

BEGINNING = 1 << 18  # bytes of a file of rows
FOOTER = 1 << 16  # bytes at the end of a parquet file, which mostly hold its schema
LARGEST_FOOTER = 1 << 26
PIECE = 1 << 12  # bytes that are unpacked at a time
MAGIC = b"PAR1"  # begins and ends a parquet file
NO_SUCH_PART = 416  # the status of an answer


def require_first_rows(pinned: Pinned, name: str, field: str | None, client: Client) -> None:
    """Raise UserError where a file has no such field, or no text in it, as far as its rows show."""
    title = f"{name} of {pinned.repo}"
    form = form_of(name)
    if form == ".parquet":
        known = _schema(pinned, name, client)
        if known is not None:
            require_column(field, known, title)
        return
    complete = _complete(pinned, name, client)
    if form in SEPARATORS and complete:
        require_column(field, dict.fromkeys(_header(complete, form), True), title)
    elif form in (".json", ".jsonl"):
        for _ in texts(_rows(complete, title), field, title, Reading()):
            pass


def first_fields(pinned: Pinned, name: str, client: Client) -> list[str] | None:
    """Return a file's columns, or the fields of its first rows; None: only the whole shows them.

    Raises UserError for a parquet file without rows.
    """
    form = form_of(name)
    if form == ".parquet":
        known = _schema(pinned, name, client)
        return None if known is None else list(known)
    complete = _complete(pinned, name, client)
    if form in SEPARATORS:
        return _header(complete, form) if complete else None
    if form not in (".json", ".jsonl"):
        return None
    first = [row for _, row in _rows(complete, name) if isinstance(row, dict)]
    return list(dict.fromkeys(field for row in first for field in row)) if first else None


def _complete(pinned: Pinned, name: str, client: Client) -> list[str]:
    """Return the first lines of a file that hold anything."""
    return [line for line in _beginning(pinned, name, client) if line.strip()]


def _header(complete: list[str], form: str) -> list[str]:
    """Return the names in the first line of a file of cells."""
    csv.field_size_limit(LONGEST)
    return next(csv.reader(complete[:1], delimiter=SEPARATORS[form]))


def _rows(lines: list[str], title: str) -> Iterator[Row]:
    """Yield the first rows, where each is a line of its own."""
    for number, line in enumerate(lines[:FIRST], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return  # one value over several lines, or damaged: told when the file is read
        if isinstance(row, list):
            return
        yield f"{title}, line {number}", row


def _schema(pinned: Pinned, name: str, client: Client) -> dict[str, bool] | None:
    """Return a file's columns; its schema lies at its end, behind its length.

    None: it is damaged, or the Hub gives no parts of files, which is told when the file is read.
    """
    import pyarrow
    import pyarrow.parquet

    tail = _fetched(pinned, name, f"bytes=-{FOOTER}", FOOTER, client)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if FOOTER < length <= LARGEST_FOOTER:
        tail = _fetched(pinned, name, f"bytes=-{length}", length, client)
    if not tail.endswith(MAGIC) or len(tail) < length:
        return None
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(MAGIC + tail[-length:]))
        found, rows = file.schema_arrow, file.metadata.num_rows
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"{name} of {pinned.repo} is damaged ({error}); name another") from error
    if rows == 0:
        raise UserError(f"{name} of {pinned.repo} has no rows; name another split or data set")
    return columns(found)


def _beginning(pinned: Pinned, name: str, client: Client) -> list[str]:
    """Return the first lines of a file of rows, without one that is cut off."""
    content = _fetched(pinned, name, f"bytes=0-{BEGINNING - 1}", BEGINNING, client)
    whole = len(content) < BEGINNING
    packing = PACKED.get(PurePosixPath(name).suffix)
    if packing:
        content, whole = _unpacked(content, packing), False
    text = content.decode("utf-8", "ignore").removeprefix(BYTE_ORDER_MARK)
    lines = text.split("\n")
    return lines if whole else lines[:-1]


def _unpacked(content: bytes, packing: str) -> bytes:
    """Unpack as much as there is of a packed file's beginning, within bounds."""
    import pyarrow

    parts: list[bytes] = []
    stream: Any = pyarrow.CompressedInputStream(io.BytesIO(content), packing)
    try:
        for part in islice(iter(lambda: stream.read(PIECE), b""), BEGINNING // PIECE):
            parts.append(part)
    except OSError:
        pass  # it ends here, as was to be expected
    return b"".join(parts)


def _fetched(pinned: Pinned, name: str, part: str, most: int, client: Client) -> bytes:
    """Fetch a part of a file; of a Hub that ignores which, the beginning of the whole."""
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    from hubq.client.border import HOME

    url = hf_hub_url(
        pinned.repo, name, repo_type="dataset", revision=pinned.commit, endpoint=client.url
    )
    home = {HOME: client.url, "range": part}
    headers = build_hf_headers(token=client.api().token, headers=home)
    found = bytearray()
    with (
        client.translate_errors(f"looking at {name} of the data set {pinned.repo}"),
        get_session().stream("GET", url, headers=headers, follow_redirects=True) as response,
    ):
        if response.status_code == NO_SUCH_PART:  # of an empty file
            return b""
        hf_raise_for_status(response)
        for piece in response.iter_bytes():
            found += piece
            if len(found) >= most:
                break
    return bytes(found[:most])
