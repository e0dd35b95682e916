"""The quantized representations: what a method returns and what a format packs.

Each is exact: `dequantize` gives the very floats that a reader of the packed file computes, and
`stored_bits` counts what the file would hold. A representation on torch's meta device has shapes
and no data, so a plan can count the bytes of a model that was never read. It may import
`hubq.runtime`, which has the formulas, and the compiled loops, these inside functions: numba takes
a second, and a plan needs none.
"""

from hubq.tensors.affine import PER_CHANNEL, SMALLEST_SCALE, Affine, ClippingRange, Grid
from hubq.tensors.binary import Binary
from hubq.tensors.codebook import Codebook
from hubq.tensors.composed import Masked, Mixed, Reordered, Rotated
from hubq.tensors.floating import Floating
from hubq.tensors.quantized import QuantizedTensor, Values, values

__all__ = [
    "PER_CHANNEL",
    "SMALLEST_SCALE",
    "Affine",
    "Binary",
    "ClippingRange",
    "Codebook",
    "Floating",
    "Grid",
    "Masked",
    "Mixed",
    "QuantizedTensor",
    "Reordered",
    "Rotated",
    "Values",
    "values",
]
