"""What makes logits of hidden states: in LLaMA-like models the head, and nothing after it.

Perplexity, likelihoods and distributions send through the head only what they need, and form logits
again from kept states. Where a model scales or caps its logits after the head (Granite, Gemma 2),
that would give wrong numbers, so such a model is refused before anything is measured.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    Head = Callable[[Tensor], Tensor]  # (..., hidden) to (..., vocabulary)

PROBE = 16  # tokens that are tried
TOLERANCE = 2.0**-6  # of the greatest logit; bfloat16 rounds by 2^-9 of each


def require_plain_head(
    model: Any,  # noqa: ANN401 - transformers carries no types
    folder: Path,
    head: "Head | None" = None,
) -> None:
    """Raise UserError unless the logits are what a head, the model's own, makes of its states."""
    import torch

    ids = torch.arange(PROBE, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        logits = model(input_ids=ids, use_cache=False).logits
        product = (head or model.get_output_embeddings())(states)
    if logits.shape == product.shape:
        off = (logits - product).abs().max()
        if not off > TOLERANCE * logits.abs().max():  # NaN is refused later, with its layer
            return
    raise UserError(
        f"the logits of {folder} (a {model.config.model_type} model) are not its head's product "
        "with the last hidden state: they are scaled, capped or shifted, or the head's weights lie "
        "elsewhere. hubq measures LLaMA-like models, whose logits are the head's alone"
    )
