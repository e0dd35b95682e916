"""What a recipe calibrates on: texts, conversations, and pictures with text."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar, Self

from pydantic import Field, model_validator

from hubq.records.named_texts import DRAWN_PICTURES, NAMED_TEXTS
from hubq.records.recipe_inputs import DatasetSection, exactly_one, spelled_out
from hubq.records.record import AsWritten, Record

CONVERSATION = 1000  # tokens that are assumed of one, whose length only its reader knows
SEEN = 2000  # tokens that are assumed of a picture with its text
IMAGE_SHARE = 0.5


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
        own = spelled_out(rest.get("dataset"))
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


def _shared_out(whole: int, weights: Sequence[float]) -> list[int]:
    """Share out a whole number by weights; what is left over goes to the largest remainders."""
    exact = [Fraction(weight) * whole / sum(map(Fraction, weights)) for weight in weights]
    shares = [int(each) for each in exact]
    by_remainder = sorted(range(len(exact)), key=lambda which: shares[which] - exact[which])
    for which in by_remainder[: whole - sum(shares)]:
        shares[which] += 1
    return shares
