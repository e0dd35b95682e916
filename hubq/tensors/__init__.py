"""The quantized representations: what a method returns and what a format packs.

Each is exact: `dequantize` gives the very floats that a reader of the packed file computes, and
`stored_bits` counts what the file would hold. A representation on torch's meta device has shapes
and no data, so a plan can count the bytes of a model that was never read. The compiled loops are
imported inside functions: numba takes a second, and a plan needs none.
"""

from hubq.tensors.affine import PER_CHANNEL, SMALLEST_SCALE, Affine, Grid, Reach
from hubq.tensors.binary import Binary
from hubq.tensors.codebook import Codebook
from hubq.tensors.masked import Masked
from hubq.tensors.mixed import Mixed
from hubq.tensors.quantized import QuantizedTensor, Values, values
from hubq.tensors.reordered import Reordered
from hubq.tensors.rotated import Rotated

__all__ = [
    "PER_CHANNEL",
    "SMALLEST_SCALE",
    "Affine",
    "Binary",
    "Codebook",
    "Grid",
    "Masked",
    "Mixed",
    "QuantizedTensor",
    "Reach",
    "Reordered",
    "Rotated",
    "Values",
    "values",
]
