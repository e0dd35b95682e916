"""The versions of a release: what each was, and what the next one changed.

The record lies in the repo that it is about, where others may write, so every text and number of
it has bounds.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from hubq.records.record import Record
from hubq.records.report import Interval
from hubq.records.run_folder import VERSIONS, record_in

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x{9f}`]{0,300}$")]
Name = Annotated[str, StringConstraints(pattern=r"^v[1-9][0-9]{0,5}$")]
Tag = Annotated[str, StringConstraints(pattern=r"^v[1-9][0-9]{0,5}(-[0-9a-f]{8})?$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Date = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Bits = Annotated[FiniteFloat, Field(ge=0)]
MOST_TEXT = 300  # characters
Verdict = Literal["better", "worse", "within noise", "noise not known", "measured otherwise"]


class Number(Record):
    """What was measured of two versions; None: it was not measured of that one."""

    title: Text
    before: Interval | None
    after: Interval | None
    verdict: Verdict | None = None  # None: there is nothing to compare

    @model_validator(mode="after")
    def _finite(self) -> Self:
        ends = [end for each in (self.before, self.after) if each for end in _values(each)]
        if not all(map(math.isfinite, ends)):
            raise ValueError("a number is infinite")
        return self


def _values(interval: Interval) -> list[float]:
    """List an interval's numbers, as far as they are known."""
    known = (interval.value, interval.low, interval.high)
    return [each for each in known if each is not None]


class Version(Record):
    """One release that stands or stood in a repo."""

    name: Name
    date: Date  # of its publishing
    commit: Commit | None = None  # None: it is what this record lies beside
    tag: Tag | None = None  # under which it lies once it was replaced
    recipe: Text
    method: Text
    form: Text  # the format on disk
    linear_bits: Bits | None = None  # stored, a weight of the quantized linears; None: not known
    model_bits: Bits | None = None  # a parameter of the whole file; likewise
    weight_bytes: Annotated[int, Field(ge=0)] | None = None
    base: Text  # org/name@commit, or the identity of a file
    settings: tuple[Text, ...] = Field(default=(), max_length=200)  # that changed, old and new
    numbers: tuple[Number, ...] = Field(default=(), max_length=2000)


class Versions(Record):
    """All versions of a repo, oldest first; the last is the one that stands there."""

    entries: tuple[Version, ...] = Field(min_length=2, max_length=1000)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        counts = [int(each.name[1:]) for each in self.entries]
        if any(one >= other for one, other in pairwise(counts)):
            raise ValueError("versions are not in order")
        if any(each.commit is None or each.tag is None for each in self.entries[:-1]):
            raise ValueError("an old version has no commit or tag")
        return self

    @property
    def last(self) -> Version:
        """The version that stands."""
        return self.entries[-1]

    @property
    def replaced(self) -> Version:
        """The version before."""
        return self.entries[-2]


def versions_in(folder: Path) -> Versions | None:
    """Return the versions that were saved in a folder, of a run or a repo; None: there is one."""
    path = record_in(folder, VERSIONS)
    return None if path is None else Versions.load(path)
