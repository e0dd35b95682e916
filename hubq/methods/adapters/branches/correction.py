"""What an adapter adds to a linear's weight, as two thin matrices."""

from typing import NamedTuple

from torch import Tensor


class Correction(NamedTuple):
    """W + (alpha / rank) b a, with the alpha and the rank of the adapter's file.

    A correction in closed form is b a itself: its file has alpha = rank.
    """

    a: Tensor  # (rank, in) float32
    b: Tensor  # (out, rank) float32
    facts: dict[str, float]  # such as the errors before and after
