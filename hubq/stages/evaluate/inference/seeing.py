"""What a model that sees says to a picture: one turn of a user, decoded greedily."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.sources.chat_template import with_places
from hubq.sources.processor import processor_of, seen
from hubq.stages.evaluate.inference.nan_check import refuse_non_finite

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# What the model's own settings may say otherwise, and would make another text of it.
GREEDY: dict[str, Any] = {
    **{"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
    **{"temperature": None, "top_p": None, "top_k": None},
}


def placed(model: Any, given: "Mapping[str, Tensor]") -> "dict[str, Tensor]":  # noqa: ANN401 - transformers carries no types
    """Put what a model reads where it is; pixels in its dtype."""
    dtypes = {
        name: model.dtype if each.is_floating_point() else each.dtype
        for name, each in given.items()
    }
    return {name: each.to(model.device, dtypes[name]) for name, each in given.items()}


class Viewer:
    """A loaded model with the processor of its folder."""

    def __init__(self, model: Any, folder: Path) -> None:  # noqa: ANN401 - transformers carries no types
        self.model = model
        self.folder = folder
        self.processor = processor_of(folder)

    def answer(self, picture: "Image", text: str, new_tokens: int) -> str:
        """Return what follows a turn with the picture first and then the text.

        Raises UserError for numbers that are not finite, and where all that doesn't fit into the
        model's positions.
        """
        import torch
        from transformers import LogitsProcessorList

        turn = with_places([{"role": "user", "content": text}], 1)
        given = placed(self.model, seen(self.processor, [picture], turn))
        ids = given["input_ids"]
        self._require_room(ids.shape[1] + new_tokens)
        with torch.inference_mode():
            written = self.model.generate(
                **given,
                **GREEDY,
                max_new_tokens=new_tokens,
                logits_processor=LogitsProcessorList([self._refusing]),
                pad_token_id=self.processor.tokenizer.pad_token_id,
                use_cache=True,
            )
        said: str = self.processor.tokenizer.decode(
            written[0, ids.shape[1] :], skip_special_tokens=True
        )
        return said

    def _require_room(self, tokens: int) -> None:
        positions = self.model.config.get_text_config().max_position_embeddings
        if tokens > positions:
            raise UserError(
                f"a picture with its question and the answer takes {tokens:,} tokens, and "
                f"{self.folder} was made for {positions:,}; use another task"
            )

    def _refusing(self, ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Raise UserError where a score is NaN or infinite; change nothing."""
        if (scores.isnan() | (scores == float("inf"))).any():
            refuse_non_finite(self.model, ids, self.folder)
        return scores
