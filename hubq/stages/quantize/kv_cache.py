"""Scales for keys and values in FP8: their greatest magnitudes on the calibration text."""

import torch
from torch import Tensor

from hubq.stages.quantize.ranks import Ranks
from hubq.tensors import SMALLEST_SCALE
from hubq.tensors.floating import E4M3, GREATEST


class GreatestStates:
    """Stands where attention has a cache: it keeps nothing of keys and values but the greatest."""

    def __init__(self, device: torch.device) -> None:
        self.greatest = torch.zeros(2, device=device)  # of keys, with their positions, and values

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: object, **named: object
    ) -> tuple[Tensor, Tensor]:  # (batch, heads, length, head) each
        """Take in those of a batch, and return them as they are."""
        seen = torch.stack([each.abs().amax().float() for each in (keys, values)])
        self.greatest = torch.maximum(self.greatest, seen)
        return keys, values

    def scales(self, attention: str, dtype: torch.dtype, ranks: Ranks) -> dict[str, Tensor]:
        """Return the file's tensors, (1,) each, by which all ranks' states fit into FP8."""
        ranks.greatest(self.greatest)
        scales = (self.greatest / GREATEST[E4M3]).clamp_(min=SMALLEST_SCALE).to(dtype)
        return {
            f"{attention}.{name}": scale.reshape(1).cpu()
            for name, scale in zip(("k_scale", "v_scale"), scales, strict=True)
        }
