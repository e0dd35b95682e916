"""Rotary positions of a GGUF file, said as transformers says them.

llama.cpp's converter writes Llama 3.1's scaling as one factor for each frequency (`rope_freqs`),
by which it is divided, and not the four numbers that these follow from. They are found again by
trying those that models have, and taken only if they give the same factors. Linear scaling and
YaRN stand in the metadata; both sides compute them alike (llama.cpp's `rope_yarn` and
`yarn_corr_dims`, transformers' `_compute_yarn_parameters` and `linear`).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubq.errors import UserError
from hubq.gguf_files import Gguf

FACTORS = "rope_freqs.weight"
LOW, HIGH = 1.0, 4.0  # wavelengths in a context below and above which all is or nothing is scaled
CONTEXTS = (8192, *(1 << power for power in range(6, 18)))
CLOSE = 5e-6  # relative; factors were computed in float32
YARN = ("type", "factor", "original_context_length", "finetuned")
F32 = 0  # of GGMLQuantizationType


def rope_parameters(gguf: Gguf, architecture: str, theta: float, head: int) -> dict[str, Any]:
    """Return config.json's rope_parameters; raise UserError for a scaling that it can't express.

    `theta` is the base of the frequencies, `head` the width of a head.
    """
    start = f"{architecture}.rope.scaling."
    said = {
        key.removeprefix(start): value
        for key, value in gguf.metadata.items()
        if key.startswith(start)
    }
    said.setdefault("factor", gguf.metadata.get(f"{architecture}.rope.scale_linear", 0.0))
    kind, factor = said.get("type"), said["factor"]
    plain = {"rope_type": "default", "rope_theta": theta}
    is_scaled = kind != "none" and factor not in (0, 1)
    if FACTORS in gguf.tensors:
        if is_scaled:
            raise _error(gguf, f"both {FACTORS} and a scaling of {factor} in its metadata")
        return plain | _from_factors(gguf, theta, head)
    if not is_scaled and kind in (None, "none", "linear"):
        return plain
    if type(factor) is not float or not 0 < factor < math.inf:
        raise _error(gguf, f"a scaling of its positions by {factor!r}")
    if kind in (None, "linear"):  # llama.cpp takes a scaling without a type for linear
        return plain | {"rope_type": "linear", "factor": factor}
    context = said.get("original_context_length")
    if kind == "yarn" and not said.keys() - set(YARN) and type(context) is int and context > 0:
        yarn = {"rope_type": "yarn", "factor": factor}
        return plain | yarn | {"original_max_position_embeddings": context}
    others = ", ".join(sorted(said.keys() - {"type", "factor"}))
    raise _error(gguf, f"a scaling {kind!r} of its positions with {others or 'nothing else'}")


def _error(gguf: Gguf, what: str) -> UserError:
    return UserError(
        f"{gguf.path} has {what}, for which hubq knows no equal in transformers: read without it, "
        "this would be another model.\n"
        "Name the model by its Hub id or a folder of safetensors instead."
    )


def _from_factors(gguf: Gguf, theta: float, head: int) -> dict[str, Any]:
    """Return what gives the factors of a file."""
    tensor = gguf.tensors[FACTORS]
    if tensor.shape != (head // 2,) or tensor.kind != F32:
        raise _error(gguf, f"{FACTORS} of the shape {tensor.shape} for heads of {head}")
    stored = np.fromfile(tensor.path, "<f4", head // 2, offset=tensor.begin).astype(np.float64)
    factor = float(stored.max())
    if not (stored.min() > 0 and factor < math.inf):
        raise _error(gguf, f"{FACTORS} that are no numbers above 0")
    if np.all(stored == factor):
        return {} if factor == 1 else {"rope_type": "linear", "factor": factor}
    for context in _contexts(gguf):
        if np.allclose(llama3_factors(theta, head, factor, context), stored, CLOSE, 0):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": context,
            }
    raise _error(gguf, f"{FACTORS} ({stored.min():g} to {factor:g}) that are not Llama 3's")


def _contexts(gguf: Gguf) -> Iterator[int]:
    """Yield lengths that a model may have been trained with first, the likeliest first."""
    yield from (value for key, value in gguf.metadata.items() if _is_length(key, value))
    yield from CONTEXTS


def _is_length(key: str, value: object) -> bool:
    return key.endswith("rope.scaling.original_context_length") and type(value) is int and value > 0


def llama3_factors(theta: float, head: int, factor: float, context: int) -> NDArray[np.float64]:
    """Return what each frequency is divided by, (head / 2,): transformers' and llama.cpp's rule."""
    wavelength = 2 * math.pi * theta ** (np.arange(0, head, 2) / head)
    smooth = np.clip((context / wavelength - LOW) / (HIGH - LOW), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)
