"""Pictures with the text beside them, of a data set's rows or drawn: what a model is shown.

Both are those of strangers: what isn't read is counted by its reason.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.sources.instructions.conversations import too_few
from hubq.sources.instructions.rows import (
    NO_ANSWER,
    OTHER_FORM,
    WRONG_KIND,
    Fields,
    Form,
    Pair,
    Read,
    asked,
    form_in,
)
from hubq.sources.pictures.drawn import DRAWN, Drawn
from hubq.sources.pictures.reading import MAX_BYTES, picture
from hubq.sources.texts.documents import listed, rows
from hubq.sources.texts.find import file_of
from hubq.sources.texts.first_rows import first_fields
from hubq.sources.texts.hub import fetched, located

if TYPE_CHECKING:
    from PIL.Image import Image

    from hubq.records.recipe_calibration import CalibrationDataset

QUESTION = "What does the picture show?"  # that a caption answers
AT_ONCE = 8  # pictures that are held as they are in their file
DRAWN_SEED = 2_000_000  # added to a recipe's: the tasks' and the training's pictures are others
NO_PICTURE = "no picture in the row"
SEVERAL = "several pictures in the row"
OUTSIDE = "a picture outside of the file's folder"
UNREADABLE = "a picture that can't be read"


class Shown(NamedTuple):
    """A picture, and what is said about it."""

    picture: "Image"
    pair: Pair


class Found(NamedTuple):
    """A data set that is there."""

    title: str
    version: str
    shown: Callable[[], Iterator[Shown]]
    digest: Any = None  # of the pictures that lie beside a file


def require_pictures(dataset: "CalibrationDataset", samples: int, client: Client) -> None:
    """Raise UserError for a data set that isn't there, has other fields, or too few pictures.

    Of one on the Hub a file's beginning or schema is looked at.
    """
    if dataset.hub is not None:
        there = located(dataset, client, purpose="calibration")
        fields = first_fields(there.pinned, there.files[0], client)
        if fields is not None:
            _require_fields(dataset, fields, f"{there.files[0]} of {there.pinned.repo}")
        return
    left_out: Counter[str] = Counter()
    found = found_in(dataset, 0, left_out, client)
    usable = sum(1 for _ in zip(range(samples), found.shown(), strict=False))
    if usable < samples:
        raise too_few(found.title, usable, samples, left_out, "pictures")


def found_in(
    dataset: "CalibrationDataset", seed: int, left_out: Counter[str], client: Client
) -> Found:
    """Find a data set's pictures, which are read as they are wanted."""
    if dataset.name is not None:
        return _drawn(dataset.name, seed)
    if dataset.hub is not None:
        there = located(dataset, client, purpose="calibration")
        version = f"{there.pinned.repo}@{there.pinned.commit}"
        return Found(
            there.title,
            version,
            lambda: _in_files(lambda: fetched(there, client), dataset, seed, left_out, None),
        )
    path, title = file_of(dataset)
    beside = None if dataset.file is None else _Beside(path.parent)
    return Found(
        title,
        f"sha256:{sha256_of(path)}",
        lambda: _in_files(lambda: iter([path]), dataset, seed, left_out, beside),
        None if beside is None else beside.digest,
    )


def _drawn(name: str, seed: int) -> Found:
    """Draw pictures of the kind that a task asks about."""
    kind, started = name.removeprefix("hubq_"), DRAWN_SEED + seed

    def shown() -> Iterator[Shown]:
        for drawn in DRAWN[kind](started, 1_000_000):
            yield Shown(drawn.picture, _about(drawn))

    return Found(f"{kind.replace('_', ' ')} that hubq draws", f"seed {started}", shown)


def _about(drawn: Drawn) -> Pair:
    """Ask about a drawn picture: below the question stand its options, if there are any."""
    options = [f"{letter}. {each}" for letter, each in zip("ABCD", drawn.options, strict=False)]
    read = asked("\n".join([drawn.question, *options]), drawn.answers[0])
    assert isinstance(read, Pair)
    return read


class _Beside:
    """Pictures in the folder of a file of rows, which names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.digest = sha256()  # of all that were read

    def read(self, name: str) -> bytes | str:
        """Return what is in a file inside the folder, or why it isn't read."""
        try:
            path = (self.folder / name).resolve()
            if not path.is_relative_to(self.folder):
                return OUTSIDE
            if not path.is_file():  # a pipe would be read for ever
                return UNREADABLE
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except (OSError, RuntimeError, ValueError):  # a name that is none; links in a circle
            return UNREADABLE
        self.digest.update(content)
        return content


def _in_files(
    files: Callable[[], Iterator[Path]],
    dataset: "CalibrationDataset",
    seed: int,
    left_out: Counter[str],
    beside: _Beside | None,
) -> Iterator[Shown]:
    """Yield the pictures of rows: in their order, or first those that a seed draws, half of them.

    `left_out` counts by reasons what can't be used.
    """
    for now in (True, False) if seed else (True,):
        drawn = random.Random(seed)
        for path in files():
            for row in _rows(path, dataset):
                if seed and (drawn.random() < 0.5) is not now:
                    continue
                found = _shown(row, dataset, beside)
                if isinstance(found, str):
                    left_out[found] += 1
                else:
                    yield found


def _rows(path: Path, dataset: "CalibrationDataset") -> Iterator[object]:
    """Yield the rows of a file; raise UserError where it has no such fields."""
    wanted = [*_form(dataset).fields, dataset.image_field or ""]

    def chosen(known: Mapping[str, bool]) -> list[str]:
        _require_fields(dataset, list(known), str(path))
        return wanted

    required = False
    for _, row in rows(path, chosen, AT_ONCE):
        if not required and isinstance(row, Mapping):
            _require_fields(dataset, list(row), str(path))
            required = True
        yield row


def _require_fields(dataset: "CalibrationDataset", fields: list[str], title: str) -> None:
    """Raise UserError for fields that aren't there; those of a record are spelled by their path."""
    wanted = [dataset.image_field or "", *_form(dataset).fields]
    missing = [
        name
        for name in wanted
        if not any(each == name or each.startswith(f"{name}.") for each in fields)
    ]
    if missing:
        raise UserError(
            f"{title} has no field {' and no field '.join(missing)}; it has {listed(fields)}"
        )


def _form(dataset: "CalibrationDataset") -> Form:
    """Return the form of the text beside the pictures."""
    if dataset.speaks_in:
        return form_in(dataset.speaks_in)
    caption = dataset.field or ""
    return Form((caption,), lambda row: _caption(row.get(caption)))


def _caption(value: object) -> Read:
    """Make an answer of a caption, or of several one after another."""
    every: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in every):
        return NO_ANSWER if value is None else WRONG_KIND
    return asked(QUESTION, " ".join(every))


def _shown(row: object, dataset: "CalibrationDataset", beside: _Beside | None) -> Shown | str:
    """Read a row, or say why it can't be used."""
    if not isinstance(row, Mapping):
        return OTHER_FORM
    pair = _form(dataset).read(_in_words(row, dataset.messages))
    if isinstance(pair, str):
        return pair
    content = _content(row.get(dataset.image_field), beside)
    if isinstance(content, str):
        return content
    try:
        return Shown(picture(content, "the picture"), pair)
    except UserError:
        return UNREADABLE


def _in_words(row: Fields, messages: str | None) -> Fields:
    """Leave of messages whose content is a list of parts the texts."""
    said = row.get(messages) if messages else None
    if not isinstance(said, list):
        return row
    turns = [
        {**turn, "content": _texts(turn["content"])}
        if isinstance(turn, Mapping) and isinstance(turn.get("content"), list)
        else turn
        for turn in said
    ]
    return {**row, str(messages): turns}


def _texts(parts: list[Any]) -> str:
    found = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "\n".join(each for each in found if isinstance(each, str))


def _content(value: object, beside: _Beside | None) -> bytes | str:
    """Return a picture's bytes, as data sets hold them or name them, or why there are none."""
    if isinstance(value, list):
        if len(value) > 1:
            return SEVERAL
        value = value[0] if value else None
    held = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(held, bytes):
        return held
    name = value.get("path") if isinstance(value, Mapping) else value
    return beside.read(name) if beside is not None and isinstance(name, str) else NO_PICTURE
