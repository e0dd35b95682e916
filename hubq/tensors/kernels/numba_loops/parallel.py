"""What the compiled loops share: their arrays, and numba on as many threads as torch has."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS = 64  # of a layer, that one pass of the loop holds in the processor's first cache

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Return a CPU's tensor as an array in one piece, without a copy where it is one."""
    array: NDArray[Any] = tensor.contiguous().numpy()
    return array


def parallel(fastmath: frozenset[str] = frozenset()) -> Callable[..., Any]:
    """Return numba's decorator, on torch's number of threads; numba takes half a second to load."""
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.get_num_threads()))
    decorator: Callable[..., Any] = numba.njit(
        parallel=True, cache=True, error_model="numpy", fastmath=set(fastmath)
    )
    return decorator
