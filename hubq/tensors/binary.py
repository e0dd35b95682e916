"""Binary weights: sums of signs, with scales for each row and group of columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hubq.runtime.formulas import binary_weight, column_groups
from hubq.tensors.packing import bitmap_words
from hubq.tensors.quantized import QuantizedTensor, Values, value_bits, value_rows


@dataclass(frozen=True)
class Binary(QuantizedTensor):
    """w = mean + the sum over planes k of scale_k * s_k, where s_k is -1 or 1 (unipolar: 0 or 1).

    One plane is plain binarization. Two planes are a residual one; and also a split into small and
    large weights, since s (m ? a : b) = s (a + b) / 2 + s m' (a - b) / 2 for a flag m' of -1 or 1.
    Groups are `group_size` neighbouring columns, the last maybe ragged. Where `apart` marks some
    columns, each group is two: group 2g has the unmarked and 2g + 1 the marked columns.

    Of the second plane and later ones the file holds where they differ from the one before, as a
    bitmap: a split that takes few weights for the large ones costs less than a bit.
    """

    signs: Tensor  # (planes, out, in) bool
    scale: tuple[Values, ...]  # for each plane, (out, groups)
    mean: Values | None  # (out, groups)
    group_size: int
    apart: Tensor | None = None  # (in,) bool
    unipolar: bool = False
    # Of a sketch: in which share of the weights each plane differs from the one before.
    changes: float | None = field(default=None, compare=False)
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.signs.shape[1], self.signs.shape[2]

    @property
    def group(self) -> Tensor:
        """The group of each column, (in,)."""
        return column_groups(self.shape[1], self.group_size, self.apart, self.signs)

    def rows(self, which: slice) -> Tensor:
        """Add the planes to the mean, in their order, in float32."""
        return binary_weight(
            self.signs[:, which],
            [value_rows(each, which) for each in self.scale],
            None if self.mean is None else value_rows(self.mean, which),
            self.group,
            unipolar=self.unipolar,
        )

    def theoretical_bits(self) -> float:
        """Count the signs, the scales, the means and a flag a column."""
        return len(self.signs) + self.scale_bits()

    def stored_bits(self) -> float:
        """Count the signs as they lie on disk, the scales, the means and a flag a column."""
        return self.sign_bits() + self.scale_bits()

    def sign_bits(self, where: Tensor | None = None, count: int | None = None) -> float:
        """Return the bits a weight that the signs take on disk.

        Where only some weights have signs (`where`, (out, in) bool), these are `count`.
        """
        size = self.shape[0] * self.shape[1]
        count = size if count is None else count
        differ = self.differences(where, count)
        ones = None if self.changes is None else round(self.changes * count)
        return (count + 32 * sum(bitmap_words(each, ones) for each in differ)) / size

    def differences(self, where: Tensor | None, count: int) -> list[Tensor]:
        """Return where each plane differs from the one before: a row of those that have signs."""
        differ = [before ^ after for before, after in zip(self.signs, self.signs[1:], strict=False)]
        if where is None:
            return differ
        if where.is_meta:
            return [where.new_empty(1, count) for _ in differ]
        return [each.masked_select(where)[None] for each in differ]

    def scale_bits(self) -> float:
        """Return the bits a weight of scales, means and columns apart."""
        out, columns = self.shape
        flags = 0 if self.apart is None else columns
        means = 0 if self.mean is None else value_bits(self.mean)
        return (sum(map(value_bits, self.scale)) + means + flags) / (out * columns)
