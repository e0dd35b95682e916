"""What makes logits of last hidden states: the head, and what a model's config puts after it.

Perplexity, likelihoods and distributions send through the head only what they need, and form logits
again from kept states. Some models divide, multiply or cap their logits after the head (Granite,
Cohere, Gemma 2), and others may do what no config tells. So what is taken to make the logits is
proven against the model's own before anything is measured.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.stages.evaluate.inference.decoder import ON_DISK

if TYPE_CHECKING:
    from torch import Tensor

PROBE = 16  # tokens that are tried
TOLERANCE = 2.0**-6  # of the greatest logit; bfloat16 rounds by 2^-9 of each


@dataclass(frozen=True)
class Head:
    """What turns hidden states (..., hidden) into logits (..., vocabulary)."""

    product: "Callable[[Tensor], Tensor]"  # with the head's matrix
    vocabulary: int
    divisor: float = 1.0
    factor: float = 1.0
    cap: float | None = None  # no logit is greater, nor less than its negative

    def __call__(self, states: "Tensor") -> "Tensor":
        """Return the logits."""
        logits = self.product(states)
        if self.divisor != 1:
            logits = logits / self.divisor
        if self.factor != 1:
            logits = logits * self.factor
        return logits if self.cap is None else (logits / self.cap).tanh() * self.cap


def head_of(model: Any) -> Head:  # noqa: ANN401 - transformers carries no types
    """Return the head of a loaded model."""
    module = model.get_output_embeddings()  # a Linear, or what a quantizer made of it
    return Head(module, module.out_features, **_after(model.config))


def head_from(weight: "Tensor", config: Any) -> Head:  # noqa: ANN401 - weight: (vocabulary, hidden)
    """Return the head of a model that isn't loaded."""
    from torch.nn.functional import linear

    return Head(partial(linear, weight=weight), len(weight), **_after(config))


def require_head(model: Any, folder: Path, head: Head | None = None) -> None:  # noqa: ANN401
    """Raise UserError unless the logits are what a head, the model's own, makes of its states."""
    import torch

    ids = torch.arange(PROBE, device=model.device)[None] % model.config.get_text_config().vocab_size
    # Blocks that lie on the disk are left out: the head is the same behind any states.
    blocks = getattr(model, ON_DISK, None)
    with torch.inference_mode(), blocks.skipped() if blocks else nullcontext():
        states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        logits = model(input_ids=ids, use_cache=False).logits
        made = (head or head_of(model))(states)
    if logits.shape == made.shape:
        off = (logits - made).abs().max()
        if not off > TOLERANCE * logits.abs().max():  # NaN is refused later, with its layer
            return
    raise UserError(
        f"the logits of {folder} (a {model.config.model_type} model) are not its head's product "
        "with the last hidden state, scaled or capped as its config.json says: the model does more "
        "to them, or the head's weights lie elsewhere. hubq can't measure it"
    )


def _after(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """Read what comes after the head: Granite divides, Cohere multiplies, Gemma 2 caps."""
    text = config.get_text_config()
    return {
        "divisor": getattr(text, "logits_scaling", None) or 1.0,
        "factor": getattr(text, "logit_scale", None) or 1.0,
        "cap": getattr(text, "final_logit_softcapping", None),
    }
