"""Rows of a data set with pictures: all questions at once, each picture when its turn comes.

A benchmark's pictures take gigabytes, its questions a few megabytes. So all questions are read at
once, without any picture, and the pictures of those that are asked are read in their order after.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.sources.pictures.reading import picture
from hubq.sources.texts.documents import listed

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE = "image"  # the column of the pictures
AT_ONCE = 8  # pictures that are held as they are in their file
QUESTIONS = 1024  # rows without their pictures that are read together
LONGEST = 1_000_000  # characters of a text
MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Row:
    """A row without its picture; `where` says which one it is."""

    where: str
    values: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """Return the text of a column; None where the row has none, or the word `nan` for it."""
        value = self.values.get(name)
        if value is None or value == "nan" or value != value:
            return None
        if not isinstance(value, str):
            raise self.refused(name, "a text")
        return self._short(name, value)

    def key(self, name: str) -> str:
        """Return what names a row, a text or a whole number, as a text."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.refused(name, "a text or a whole number")
        return self._short(name, str(value))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts of a column that holds a list; none where the row has no list."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.refused(name, "a list of texts")
        return tuple(self._short(name, each) for each in value)

    def refused(self, name: str, wanted: str) -> UserError:
        """Return the error for a value that a task can't be asked or scored with."""
        shown = repr(self.values.get(name))
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return UserError(
            f"{self.where}: {name} should be {wanted}, not {shown}; the data is not what the task "
            "was written for: use another task"
        )

    def _short(self, name: str, text: str) -> str:
        if len(text) > LONGEST:
            raise self.refused(name, f"a text of at most {LONGEST:,} characters")
        return text


def rows(
    paths: Sequence[Path], needed: Collection[str], optional: Collection[str] = ()
) -> list[Row]:
    """Read all rows of the files but for their pictures, in order.

    Raises UserError for a file that is damaged or lacks a column.
    """
    found: list[Row] = []
    for path in paths:
        with _opened(path) as file:
            known = set(file.schema_arrow.names)
            _require(path, known, [*needed, PICTURE])
            wanted = [*needed, *(name for name in optional if name in known)]
            for batch in file.iter_batches(batch_size=QUESTIONS, columns=wanted):
                for values in batch.to_pylist():
                    found.append(Row(f"{path.name}, row {len(found) + 1}", values))
            if len(found) > MOST_ROWS:
                raise UserError(f"{path} has more than {MOST_ROWS:,} rows; use another task")
    return found


def pictures(paths: Sequence[Path], wanted: Collection[int]) -> "Iterator[tuple[int, Image]]":
    """Yield the pictures of rows, counted over all files from 0, in their order.

    Raises UserError for a picture that can't be read.
    """
    left, first = set(wanted), 0
    for path in paths:
        if not left:
            return
        with _opened(path) as file:
            for batch in file.iter_batches(batch_size=AT_ONCE, columns=[PICTURE]):
                numbers = range(first, first + len(batch))
                first += len(batch)
                if left.isdisjoint(numbers):
                    continue
                for number, value in zip(numbers, batch.column(0), strict=True):
                    if number in left:
                        left.remove(number)
                        yield number, _picture(value.as_py(), f"{path.name}, row {number + 1}")
                if not left:
                    return


def _picture(value: object, where: str) -> "Image":
    """Read a picture as data sets hold it: its bytes, or a record of these and a name."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise UserError(
            f"{where} holds no picture: its column {PICTURE} has none inside; use another task"
        )
    return picture(content, where)


def _require(path: Path, known: set[str], needed: Sequence[str]) -> None:
    """Raise UserError where a file lacks columns."""
    if missing := [name for name in needed if name not in known]:
        raise UserError(
            f"{path.name} has no column {' and no '.join(missing)}; it has "
            f"{listed(sorted(known))}. The data is not what the task was written for: use another "
            "task"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a parquet file; say what is wrong with one that is none, or damaged."""
    import pyarrow
    import pyarrow.parquet

    if path.suffix != ".parquet":
        raise UserError(f"{path.name}: pictures are read from parquet files; use another task")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"cannot read the data set {path}: {error}; delete the file") from error
