"""The documents of a file: one reader for each form in which texts lie about.

A stranger's file may be damaged, or small until it is unpacked: how much is read has a bound, and
what is wrong is said with its place. A row whose field is empty (null) is left out and counted,
and half a character (a lone surrogate, which JSON can spell and no tokenizer reads) becomes U+FFFD.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from hubq.errors import UserError
from hubq.sources.texts.lines import LONGEST, MOST, PACKED, lines

LISTED = 20  # fields that a message names
ROWS = 256  # of texts in a parquet file that are held at a time
DEPTH = 5  # of nested fields that a message names

SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
TEXT_TYPES = ("string", "large_string", "string_view", "null")  # as pyarrow spells them
MISSING = object()

Row = tuple[str, Any]  # where it stands, and what it holds
# Told which columns there are (see `columns`), it names those to read, or refuses them.
Choose = Callable[[Mapping[str, bool]], Sequence[str]]


@dataclass
class Reading:
    """What a reader came across on its way, for the record."""

    left_out: int = 0  # rows without text
    mended: int = 0  # documents with half a character

    def note(self) -> str:
        """Say it as what follows a description; nothing where there is nothing to say."""
        parts = [f"; {self.left_out:,} rows without text left out"] if self.left_out else []
        if self.mended:
            parts.append(f"; half characters in {self.mended:,} documents read as U+FFFD")
        return "".join(parts)


def form_of(name: str) -> str | None:
    """Return a file's suffix among SUFFIXES, packed or not; None: hubq doesn't read it."""
    bare, dot, last = name.rpartition(".")
    packed = dot + last in PACKED
    suffix = PurePosixPath(bare if packed else name).suffix
    readable = suffix in SUFFIXES and not (packed and suffix == ".parquet")
    return suffix if readable else None


def documents(path: Path, field: str | None, reading: Reading | None = None) -> Iterator[str]:
    """Yield the documents of a file in their order; `field` names a column or key, dots go deeper.

    `reading` is told what was left out. Raises UserError for what can't be read or is no text.
    """
    counted = reading or Reading()
    if _readable(path) == ".txt":
        return _plain(path, field, counted)
    found = rows(path, lambda known: [require_column(field, known, str(path))])
    return texts(found, field, str(path), counted)


def rows(path: Path, choose: Choose, at_once: int = ROWS) -> Iterator[Row]:
    """Yield the rows of a file in their order, of a parquet file those columns that are chosen.

    Of that so many are held at a time. UserError for what can't be read or has no rows.
    """
    suffix = _readable(path)
    if suffix in SEPARATORS:
        return _separated(path, SEPARATORS[suffix])
    if suffix == ".parquet":
        return _parquet(path, choose, at_once)
    if suffix == ".txt":
        raise UserError(f"{path} is plain text and has no rows with fields; name another file")
    return _json(path)


def _readable(path: Path) -> str:
    """Return a file's suffix among SUFFIXES; raise UserError where it has none of them."""
    suffix = form_of(path.name)
    if suffix is None:
        packed = ", ".join(PACKED)
        raise UserError(
            f"{path}: hubq reads {', '.join(SUFFIXES)} files, all but the last also packed "
            f"as {packed}; convert it"
        )
    return suffix


def _plain(path: Path, field: str | None, reading: Reading) -> Iterator[str]:
    """Yield a text file as one document."""
    if field is not None:
        raise UserError(f"{path} is plain text and has no field {field}; remove `field`")
    yield _whole_characters("".join(lines(path)), reading)


def _json(path: Path) -> Iterator[Row]:
    """Yield the rows of a JSON file: one a line, or the elements of a list, or a single one."""
    numbered = ((number, line) for number, line in enumerate(lines(path), start=1) if line.strip())
    first = next(numbered, None)
    if first is None:
        return
    if first[1].lstrip().startswith("[") or not _is_json(first[1]):
        yield from _not_lines(path, first[0])
        return
    for number, line in chain([first], numbered):
        where = f"{path}, line {number}"
        yield where, _parsed(line, where)


def _is_json(line: str) -> bool:
    """Tell whether a line is a value of its own."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: str, where: str) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}); fix the file") from error


def _not_lines(path: Path, number: int) -> Iterator[Row]:
    """Yield the rows of a JSON file that is one value; its first line stands at `number`."""
    parts: list[str] = []
    length = 0
    for line in lines(path):
        parts.append(line)
        length += len(line)
        if length > LONGEST:
            raise UserError(
                f"{path} is one JSON value of more than {LONGEST:,} characters; "
                "write one row per line"
            )
    try:
        value = json.loads("".join(parts))
    except (ValueError, RecursionError):
        # Neither lines nor one value: what is wrong with the line says more.
        value = _parsed(parts[number - 1], f"{path}, line {number}")
    if isinstance(value, list):
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(value, start=1))
    else:
        yield f"{path}, the only row", value


def _separated(path: Path, separator: str) -> Iterator[Row]:
    """Yield the rows of a file of cells under a line of names; an empty cell is null."""
    csv.field_size_limit(LONGEST)
    rows = csv.reader(lines(path), delimiter=separator, strict=True)
    try:
        names = next(rows, [])
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if row and len(row) != len(names):
                raise UserError(
                    f"{where}: {len(row)} cells for {len(names)} column names; quote cells that "
                    "contain a separator or a newline"
                )
            if row:
                yield where, {name: cell or None for name, cell in zip(names, row, strict=True)}
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}; fix its quotes") from error


def _parquet(path: Path, choose: Choose, at_once: int) -> Iterator[Row]:
    """Yield the rows of some columns."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = list(choose(columns(file.schema_arrow)))
            read = 0
            for batch in file.iter_batches(columns=wanted, batch_size=at_once):
                read += batch.nbytes
                if batch.nbytes > LONGEST or read > MOST:
                    raise UserError(f"{path} holds more text than hubq reads; name a part of it")
                yield from ((str(path), row) for row in batch.to_pylist())
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"cannot read the data set {path}: {error}; replace the file") from error


def columns(schema: Any) -> dict[str, bool]:  # noqa: ANN401 - pyarrow carries no types
    """List a schema's columns, nested ones by their path, and whether each holds text."""
    import pyarrow

    found: dict[str, bool] = {}
    ahead = [(each.name, each.type) for each in schema]
    for name, kind in ahead:
        if pyarrow.types.is_struct(kind):
            ahead += [(f"{name}.{inner.name}", inner.type) for inner in kind]
        else:
            inside = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
            found[name] = str(inside) in TEXT_TYPES
    return found


def texts(rows: Iterable[Row], field: str | None, title: str, reading: Reading) -> Iterator[str]:
    """Yield the texts in a field of rows, or rows that are texts themselves."""
    name, found = field or "text", False
    for where, row in rows:
        if row is None or (isinstance(row, str) and field is None):
            value = row
        elif isinstance(row, Mapping):
            value = _within(row, name)
        else:
            raise UserError(
                f"{where}: not an object with fields but {type(row).__name__}; fix the file"
            )
        if value is MISSING and not found:
            raise UserError(_no_field(field, _leaves(row), title))
        found = found or row is not None
        if value is None or value is MISSING:
            reading.left_out += 1
        elif isinstance(value, str):
            yield _whole_characters(value, reading)
        else:
            others = [each for each in _leaves(row) if isinstance(_within(row, each), str)]
            raise UserError(
                f"{where}, field {name}: {type(value).__name__} instead of text{_others(others)}"
            )


def _within(row: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - whatever the row holds
    """Return a field's value: that of the very name, or what its dots lead to; MISSING: none."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def _leaves(row: Mapping[str, Any], above: str = "", depth: int = DEPTH) -> list[str]:
    """List the fields of a row, a nested one by its path."""
    names: list[str] = []
    for key, value in row.items():
        if isinstance(value, Mapping) and value and depth:
            names += _leaves(value, f"{above}{key}.", depth - 1)
        else:
            names.append(f"{above}{key}")
    return names


def require_column(field: str | None, known: Mapping[str, bool], title: str) -> str:
    """Return the column to read; raise UserError where there is none, or it holds no text."""
    wanted = field or "text"
    if wanted not in known:
        raise UserError(_no_field(field, list(known), title))
    if not known[wanted]:
        others = [name for name, is_text in known.items() if is_text]
        raise UserError(f"{title}: field {wanted} holds no text{_others(others)}")
    return wanted


def _no_field(field: str | None, known: Sequence[str], title: str) -> str:
    """Say which fields there are in place of the one that is not."""
    if not known:
        return f"{title} has no fields; name another file"
    have = listed(known)
    if field is None:
        return f"{title} has no field `text`; name one with `field`: {have}"
    return f"{title} has no field {field}; it has {have}"


def listed(fields: Sequence[str]) -> str:
    """Name fields, of many the first."""
    more = f" and {len(fields) - LISTED} more" if len(fields) > LISTED else ""
    return ", ".join(each[:60] for each in fields[:LISTED]) + more


def _others(names: Sequence[str]) -> str:
    """Name the fields that hold text, as the way out."""
    if not names:
        return ", and no other field does; name another file"
    return f"; name another field: {', '.join(each[:60] for each in names[:LISTED])}"


def _whole_characters(text: str, reading: Reading) -> str:
    """Return a text that can be spelled in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        reading.mended += 1
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
