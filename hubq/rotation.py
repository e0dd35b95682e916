"""Turning weights into the frame of a rotation; the way back is `hubq/runtime/rotation.py`.

In float32: what this rounds is rounded away with the weights, and only the way back is exact.
"""

from torch import Tensor

from hubq.runtime.rotation import turns


def rotate(weight: Tensor, seed: int) -> Tensor:  # (out, in)
    """Return U W Vᵀ in float32."""
    output, inputs = turns(weight.shape[0], weight.shape[1], seed, weight.device)
    turned = inputs.forth(weight.float()).T.contiguous()
    return output.forth(turned).T.contiguous()


def rotate_gram(gram: Tensor, out: int, seed: int) -> Tensor:  # (in, in)
    """Return V G Vᵀ in float32, for a weight with so many outputs."""
    _, inputs = turns(out, len(gram), seed, gram.device)
    turned = inputs.forth(gram.float()).T.contiguous()
    return inputs.forth(turned)
