"""Affine weights: integers with a scale and a zero a group; and the grids they are rounded to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from hubq.runtime.formulas import affine_weight
from hubq.runtime.pieces import row_pieces
from hubq.tensors.quantized import QuantizedTensor, Values, value_bits, value_rows

PER_CHANNEL = -1
# How much of the range below and above zero a grid covers, (out, groups) each.
ClippingRange = tuple[Tensor, Tensor]
# The least from which float16 holds every bfloat16 number exactly, so that each format can store
# a scale as it was chosen. Groups that would need a finer one err by less than 2^-18 a weight.
SMALLEST_SCALE = 2.0**-17


@dataclass(frozen=True)
class Affine(QuantizedTensor):
    """Integers with a scale and a zero for each group of inputs: w = (code - zero) * scale.

    The last group may be ragged. A symmetric tensor has no stored zero: it is 2^(bits-1).
    """

    codes: Tensor  # (out, in) uint8, 0 to 2^bits - 1
    scale: Values  # (out, groups): floats of the dtype that the file stores, or quantized
    zero: Tensor | None  # (out, groups) uint8, or None when symmetric
    bits: int
    group_size: int  # columns a group; `in` when a whole row shares one scale
    # Whether each token's inputs are rounded too as they arrive, to so many symmetric bits.
    activation_bits: int | None = None
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)  # for the report

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def symmetric(self) -> bool:
        """Whether the zero is the middle of the range for every group."""
        return self.zero is None

    @property
    def scales(self) -> Tensor:
        """The scales as floats; only the hubq format holds quantized ones."""
        assert isinstance(self.scale, Tensor), (
            "a format was given what its `why_unsupported` refuses"
        )
        return self.scale

    def rows(self, which: slice) -> Tensor:
        """Return (code - zero) * scale in float32; a product of so few bits is exact there."""
        zero = None if self.zero is None else self.zero[which]
        scale = value_rows(self.scale, which)
        return affine_weight(self.codes[which], scale, zero, self.bits, self.group_size)

    def theoretical_bits(self) -> float:
        """Count the codes, the scales and the zeros."""
        zeros = 0 if self.zero is None else self.zero.numel() * self.bits
        return self.bits + (value_bits(self.scale) + zeros) / self.codes.numel()

    @property
    def middle(self) -> int:
        """The zero of a symmetric tensor."""
        return 1 << (self.bits - 1)

    def split(self, rows: Sequence[int]) -> tuple["Affine", ...]:
        """Cut a tensor whose rows belong to several layers into one for each."""
        ends = [sum(rows[: number + 1]) for number in range(len(rows))]
        return tuple(
            self._part(slice(end - count, end)) for count, end in zip(rows, ends, strict=True)
        )

    def _part(self, rows: slice) -> "Affine":
        scale = self.scale
        if not isinstance(scale, Tensor):
            assert isinstance(scale, Affine), "only affine scales are cut"
        return replace(
            self,
            codes=self.codes[rows],
            scale=scale[rows] if isinstance(scale, Tensor) else scale._part(rows),
            zero=None if self.zero is None else self.zero[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence["Affine"]) -> "Affine":
        """Join the rows of tensors that differ in nothing else: what `split` has cut."""
        zeros = [each.zero for each in parts if each.zero is not None]
        scales = [each.scale for each in parts]
        tensors = [each for each in scales if isinstance(each, Tensor)]
        inner = [each for each in scales if isinstance(each, Affine)]
        return replace(
            parts[0],
            codes=torch.cat([each.codes for each in parts]),
            scale=torch.cat(tensors) if tensors else cls.joined(inner),
            zero=torch.cat(zeros) if zeros else None,
        )

    @classmethod
    def fit(cls, weight: Tensor, grid: "Grid", clipping: ClippingRange | None = None) -> Self:
        """Round (out, in) to the nearest levels of a grid that spans each group's range.

        The weight may be of any float dtype: it is rounded in float32.
        """
        made = cls._empty(weight.shape, grid, weight.device)
        for rows in row_pieces(weight.shape, weight.device):
            piece = weight[rows].float()
            scale, zero = grid.span(piece, clipping and (clipping[0][rows], clipping[1][rows]))
            made._put(rows, grid, piece, (scale, zero))
        return made

    @classmethod
    def on(cls, weight: Tensor, grid: "Grid", scale: Tensor, zero: Tensor) -> Self:
        """Round to a given grid: (out, groups) scales and zeros."""
        made = cls._empty(weight.shape, grid, weight.device)
        for rows in row_pieces(weight.shape, weight.device):
            made._put(rows, grid, weight[rows], (scale[rows], zero[rows]))
        return made

    def _put(
        self, rows: slice, grid: "Grid", weight: Tensor, levels: tuple[Tensor, Tensor]
    ) -> None:
        """Round some rows to their scales and zeros, and put all three in their places."""
        scale, zero = levels
        codes = grid.round(weight, scale, zero).flatten(1)[:, : self.shape[1]]
        self.codes[rows] = codes.to(torch.int16)  # on a CPU floats become bytes faster this way
        self.scales[rows] = scale
        if self.zero is not None:
            self.zero[rows] = zero.to(torch.uint8)

    @classmethod
    def sketch(cls, shape: tuple[int, int], grid: "Grid") -> Self:
        """Return the representation without data, on the meta device, for plans."""
        return cls._empty(shape, grid, torch.device("meta"))

    @classmethod
    def _empty(cls, shape: tuple[int, ...], grid: "Grid", device: torch.device) -> Self:
        out, columns = shape
        scale = torch.empty(out, grid.groups(columns), dtype=grid.scale_dtype, device=device)
        return cls(
            codes=torch.empty(out, columns, dtype=torch.uint8, device=device),
            scale=scale,
            zero=None if grid.symmetric else torch.empty_like(scale, dtype=torch.uint8),
            bits=grid.bits,
            group_size=grid.width(columns),
        )


@dataclass(frozen=True)
class Grid:
    """What an affine method chooses before it sees a weight."""

    bits: int
    group_size: int = PER_CHANNEL  # -1: a whole row
    symmetric: bool = False
    scale_dtype: torch.dtype = torch.bfloat16

    @property
    def levels(self) -> int:
        """The largest code, 2^bits - 1."""
        return (1 << self.bits) - 1

    def width(self, columns: int) -> int:
        """Return how many columns share a scale in a weight of so many columns."""
        return columns if self.group_size == PER_CHANNEL else min(self.group_size, columns)

    def groups(self, columns: int) -> int:
        """Return how many groups a row has; the last may be ragged."""
        return -(-columns // self.width(columns))

    def grouped(self, weight: Tensor) -> Tensor:
        """View (out, in) as (out, groups, width); a ragged last group is filled with zeros."""
        out, columns = weight.shape
        missing = self.groups(columns) * self.width(columns) - columns
        filled = torch.nn.functional.pad(weight, (0, missing)) if missing else weight
        return filled.reshape(out, self.groups(columns), self.width(columns))

    def round(self, weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """Return the codes as floats, (out, groups, width); scales and zeros are (out, groups)."""
        codes = self.grouped(weight) / scale.float()[..., None]
        return codes.round_().add_(zero[..., None]).clamp_(0, self.levels)

    def error(self, weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """Return what rounding to these grids adds to each weight, (out, groups, width)."""
        from hubq.tensors.kernels.level_fitting import rounding_error

        return rounding_error(self.grouped(weight), scale.float(), zero, self.levels)

    def loss(self, weight: Tensor, scale: Tensor, zero: Tensor, energy: Tensor) -> Tensor:
        """Return the squared errors times each input's energy (in,), summed to (out, groups)."""
        energies = self.grouped(energy[None])[0]
        from hubq.tensors.kernels.level_fitting import rounding_loss

        return rounding_loss(self.grouped(weight), scale.float(), zero, self.levels, energies)

    def range(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest of each group, (out, groups); they enclose 0."""
        grouped = self.grouped(weight)
        # Two passes: on a CPU the one of aminmax takes several times as long.
        return grouped.amin(2).clamp_(max=0), grouped.amax(2).clamp_(min=0)

    def span(self, weight: Tensor, clipping: ClippingRange | None = None) -> tuple[Tensor, Tensor]:
        """Return the scales, as stored, and the zeros (float32) that cover each group's range."""
        low, high = self.range(weight)
        return (
            self.cover(low, high)
            if clipping is None
            else self.cover(low * clipping[0], high * clipping[1])
        )

    def cover(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales and the zeros of grids from `low` <= 0 to `high` >= 0."""
        if self.symmetric:
            high = torch.maximum(high, -low)
            low = -high
        exact = ((high - low) / self.levels).clamp_(min=SMALLEST_SCALE)
        scale = exact.to(self.scale_dtype)
        # Rounded up: at 8 bits a scale that came out smaller would clip the ends of the range.
        above = torch.nextafter(scale, torch.full_like(scale, torch.inf))
        scale = torch.where(scale.float() < exact, above, scale)
        if self.symmetric:
            return scale, torch.full_like(low, float(1 << (self.bits - 1)))
        return scale, (-low / scale.float()).round_().clamp_(0, self.levels)
