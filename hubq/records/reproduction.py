"""What became of a release that was made again from its own recipe."""

from typing import Literal

from hubq.records.record import Record
from hubq.records.report import Divergence

Verdict = Literal["same bytes", "same codes", "apart"]


class Apart(Record):
    """A matrix or another tensor that is not the release's; distances are those of its weights."""

    name: str
    codes: int  # of the release: codes and signs, or the numbers of what isn't quantized
    codes_apart: int | None  # None: of another width or shape, so that they don't compare
    scales: int = 0  # scales, zeros and levels
    scales_apart: int | None = 0
    mean: float | None = None  # |ours - theirs|; None: the shapes differ, or one is no number
    largest: float | None = None
    # Between two neighbouring levels, as a mean over the matrix; of what isn't quantized the
    # standard deviation. None: not known.
    step: float | None = None


class Reproduction(Record):
    """A release beside what its own recipe gave here."""

    repo: str
    commit: str
    verdict: Verdict
    files: int  # that were compared
    files_apart: tuple[str, ...]  # with other bytes, or on one side alone
    modules: int  # that are quantized; of an adapter, all its matrices
    tensors_apart: tuple[Apart, ...] = ()  # those that are, farthest first
    codes_apart: float | None = None  # share of all codes; None: some don't compare
    quantized_apart: tuple[str, ...] = ()  # files of the model below an adapter
    remarks: tuple[str, ...] = ()  # what is not as it was when the release was made
    divergence: Divergence | None = None  # of what was made again from the release; None: not asked
    text: str | None = None  # on which it was measured
    seconds: float
