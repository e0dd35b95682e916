"""Turning weights into the frame of a rotation; the way back is `hubq/runtime/rotation.py`."""

from torch import Tensor

from hubq.runtime.rotation import turns


def rotate(weight: Tensor, seed: int) -> Tensor:  # (out, in)
    """Return U W Vᵀ in float32."""
    output, inputs = turns(weight.shape[0], weight.shape[1], seed, weight.device)
    return output.forth(inputs.forth(weight.double()).T).T.float()


def rotate_gram(gram: Tensor, out: int, seed: int) -> Tensor:  # (in, in)
    """Return V G Vᵀ in float32, for a weight with so many outputs."""
    _, inputs = turns(out, len(gram), seed, gram.device)
    return inputs.forth(inputs.forth(gram.double()).T).float()
