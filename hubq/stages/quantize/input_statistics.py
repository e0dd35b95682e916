"""What calibration tokens show of the inputs of a group of linears, gathered batch by batch."""

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.methods import Inputs, Need
from hubq.stages.quantize.ranks import ALONE, Ranks
from hubq.stages.quantize.streams import Stream
from hubq.stages.quantize.windows import Counted
from hubq.tensors.gram import add_lower_gram, factors_in, mirror

SAMPLE = 2048  # tokens, or few more


class InputStatistics:
    """Sums over the tokens that reach a group of linears, and some of the tokens."""

    def __init__(
        self,
        needs: frozenset[Need],
        inputs: Stream,
        ranks: Ranks = ALONE,
        tokens: int | None = None,
    ) -> None:
        """Make room for all inputs (windows, length, in) of a rank, which come batch by batch.

        So many of their tokens count; by default all.
        """
        width, device = inputs.shape[-1], inputs.device
        self.ranks = ranks
        self.tokens = 0
        self.weight = 0.0  # of these tokens together
        self.before, tokens = ranks.place(inputs.shape[:-1].numel() if tokens is None else tokens)
        self.dtype = inputs.dtype
        # So many tokens lie between two of the sample.
        self.every = max(1, tokens // SAMPLE)
        empty = torch.empty(0, width, device=device)
        self.sample: list[Tensor] | None = [empty] if "sample" in needs else None
        self.gram = torch.zeros(width, width, device=device) if "gram" in needs else None
        wanted = "magnitude" in needs
        self.sum = torch.zeros(width, device=device) if wanted else None
        self.max = torch.zeros(width, device=device) if wanted else None

    def add(self, inputs: Tensor, counted: Counted | None = None) -> None:
        """Take in a batch of inputs (..., in), or those of its tokens that count."""
        flat = (inputs.flatten(0, -2) if counted is None else counted.of(inputs)).float()
        if self.sample is not None:
            self.sample.append(
                flat[-(self.before + self.tokens) % self.every :: self.every].clone()
            )
        self.tokens += len(flat)
        weights = None if counted is None else counted.weights
        self.weight += len(flat) if weights is None else float(weights.sum())
        if self.gram is not None:
            with factors_in(self.dtype):
                add_lower_gram(self.gram, flat if counted is None else counted.rooted(flat))
        if self.sum is not None and self.max is not None:
            magnitude = flat.abs()  # not in place: float32 inputs are no copy
            self.max = torch.maximum(self.max, magnitude.amax(0))
            if weights is not None:
                magnitude *= weights.to(magnitude.device)[:, None]
            self.sum += magnitude.sum(0)

    def result(self, group: str) -> Inputs:
        """Return the statistics of all ranks; raise UserError when an activation was not finite."""
        _, tokens = self.ranks.place(self.tokens)
        for total in (self.gram, self.sum):
            if total is not None:
                self.ranks.sum(total)
        if self.max is not None:
            self.ranks.greatest(self.max)
        if self.gram is not None:
            mirror(self.gram)
        for total in (self.gram, self.max):
            if total is not None and not torch.isfinite(total).all():
                raise UserError(
                    f"{group}: its inputs for the calibration tokens are inf or NaN. The model "
                    "overflows there: check its weights, or calibrate on other text."
                )
        mean = None if self.sum is None else self.sum / sum(self.ranks.all(self.weight))
        sample = None if self.sample is None else torch.cat(self.ranks.all(torch.cat(self.sample)))
        return Inputs(tokens, self.gram, mean, self.max, sample, self.dtype)
