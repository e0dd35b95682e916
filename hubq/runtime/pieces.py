"""The one place that knows how to cut: into rows whose floats stay in the processor's cache.

Each step on a whole matrix of a large model makes another one of its size, and on a CPU the kernel
takes longer to hand out and to zero its pages than the step takes. A GPU keeps what is freed, and
wants few and large steps.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

IN_CACHE = 1 << 18  # weights of a piece on a CPU: 1 MiB in float32
AT_ONCE = 1 << 26  # elsewhere


def row_pieces(shape: tuple[int, ...], device: torch.device) -> Iterator[slice]:
    """Cut the rows of a matrix, one at the least to each piece."""
    rows, columns = shape
    step = max(1, (IN_CACHE if device.type == "cpu" else AT_ONCE) // max(1, columns))
    for begin in range(0, rows, step):
        yield slice(begin, min(begin + step, rows))


def in_pieces(
    piece: Callable[[slice], Tensor],
    shape: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return a matrix that is made piece by piece, each time some rows of it."""
    whole = torch.empty(shape, dtype=dtype, device=device)
    for rows in row_pieces(shape, device):
        whole[rows] = piece(rows)
    return whole
