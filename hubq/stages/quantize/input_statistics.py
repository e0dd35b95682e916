"""What a method wants to know of the inputs of a group, gathered batch by batch."""

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.methods import Inputs, Need
from hubq.tensors.gram import add_lower_gram, factors_in

SAMPLE = 2048  # tokens, or few more


class InputStatistics:
    """Sums over the tokens that reach a group of linears, and some of the tokens."""

    def __init__(self, needs: frozenset[Need], inputs: Tensor) -> None:
        """Make room for all inputs (windows, length, in), which come batch by batch."""
        width, device = inputs.shape[-1], inputs.device
        self.tokens = 0
        self.dtype = inputs.dtype
        # So many tokens lie between two of the sample.
        self.every = max(1, inputs.shape[:-1].numel() // SAMPLE)
        self.sample: list[Tensor] | None = [] if "sample" in needs else None
        self.gram = torch.zeros(width, width, device=device) if "gram" in needs else None
        wanted = "magnitude" in needs
        self.sum = torch.zeros(width, device=device) if wanted else None
        self.max = torch.zeros(width, device=device) if wanted else None

    def add(self, inputs: Tensor) -> None:
        """Take in a batch of inputs (..., in)."""
        flat = inputs.flatten(0, -2).float()
        if self.sample is not None:
            self.sample.append(flat[-self.tokens % self.every :: self.every].clone())
        self.tokens += len(flat)
        if self.gram is not None:
            with factors_in(self.dtype):
                add_lower_gram(self.gram, flat)
        if self.sum is not None and self.max is not None:
            magnitude = flat.abs()  # not in place: float32 inputs are no copy
            self.sum += magnitude.sum(0)
            self.max = torch.maximum(self.max, magnitude.amax(0))

    def result(self, group: str) -> Inputs:
        """Return the statistics; raise UserError when an activation was not finite."""
        if self.gram is not None:
            self.gram = self.gram.tril_() + self.gram.tril(-1).T
        for total in (self.gram, self.max):
            if total is not None and not torch.isfinite(total).all():
                raise UserError(
                    f"{group}: the calibration tokens reach it as inf or NaN. The model overflows "
                    "there: check its weights, or calibrate on other text."
                )
        mean = None if self.sum is None else self.sum / self.tokens
        sample = None if self.sample is None else torch.cat(self.sample)
        return Inputs(self.tokens, self.gram, mean, self.max, sample, self.dtype)
