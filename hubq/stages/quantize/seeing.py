"""What pictures become before the first block: the part of a model that sees, run once.

transformers' own model runs, without the decoder's blocks: its embeddings are read row by row, and
what its decoder is given is taken from it. So a picture's tokens stand among those of text as they
do when the whole model reads, and so do their positions, of which Qwen2-VL's have three.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hubq.errors import UserError
from hubq.machine.progress import Progress, quiet
from hubq.machine.shortages import is_out_of_memory
from hubq.runtime.headers import few
from hubq.sources.calibration_tokens import Seen
from hubq.sources.language_part import HEAD, Whole
from hubq.sources.shards import Weights
from hubq.sources.skeleton import understanding
from hubq.stages.quantize.windows import Entering, Positions

Rows = Callable[[Tensor], Tensor]  # of the embeddings, by ids that are all different


class Merged(NamedTuple):
    """What of one window reaches the first block."""

    hidden: Tensor  # (length, hidden)
    positions: Positions | None  # (length, head); None: from 0 on


class Eyes:
    """A model that sees, without the blocks of its decoder."""

    def __init__(self, folder: Path, whole: Whole, rows: Rows, like: Tensor) -> None:
        """Load what sees from a folder, onto the device and in the dtype of a tensor."""
        self.folder = folder
        self.model = _without_blocks(folder, whole, like.dtype).to(like.device).eval()
        self.decoder: Any = self.model.get_submodule(whole.family.body)
        self.decoder.embed_tokens = _Rows(rows, like)
        self.decoder.forward = self._given
        self.given: dict[str, Any] = {}
        # Whether positions have several axes, also where all windows are of text.
        self.has_axes = hasattr(self.decoder.rotary_emb, "mrope_section")

    @torch.no_grad()
    def merged(self, ids: Tensor, seen: Seen) -> Merged:
        """Return what reaches the first block of tokens (length,) and of what is seen.

        Raises UserError where the pictures have another number of tokens than the places for them.
        """
        device = self.model.device
        inputs = {"input_ids": ids[None], **seen}
        try:
            self.model.model(**{name: each.to(device) for name, each in inputs.items()})
        except (RuntimeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise UserError(
                f"{self.folder}: its model can't take what its processor makes of a picture "
                f"({error}): their files are not of one model; copy them again from where the "
                "model was saved"
            ) from error
        hidden = self.given["inputs_embeds"]
        if not self.has_axes:
            return Merged(hidden[0].cpu(), None)
        turns = self.decoder.rotary_emb(hidden, self.given["position_ids"])
        return Merged(hidden[0].cpu(), Positions(*(each[0].cpu() for each in turns)))

    def counted_on(self, like: Tensor) -> Positions:
        """Return the positions from 0 on of a window (length, hidden), (length, head)."""
        device = self.model.device
        ids = torch.arange(len(like), device=device).expand(3, 1, -1)
        turns = self.decoder.rotary_emb(like[None].to(device), ids)
        return Positions(*(each[0].cpu() for each in turns))

    def free(self) -> None:
        """Give the memory back, at once."""
        self.given = {}
        self.model.to("meta")

    def _given(self, **given: Any) -> Any:  # noqa: ANN401 - as transformers calls a decoder
        """Keep what the decoder is given, and pass it on as if that were its output."""
        from transformers.modeling_outputs import BaseModelOutputWithPast

        self.given = given
        return BaseModelOutputWithPast(last_hidden_state=given["inputs_embeds"])


class _Rows(nn.Module):
    """Embeddings of which only the rows that are asked for are read."""

    def __init__(self, rows: Rows, like: Tensor) -> None:
        super().__init__()
        self.rows, self.like = rows, like

    def forward(self, ids: Tensor) -> Tensor:
        """Return (batch, length, hidden) of (batch, length)."""
        wanted, place = torch.unique(ids.cpu(), return_inverse=True)
        return self.rows(wanted)[place].to(self.like)


def _without_blocks(folder: Path, whole: Whole, dtype: torch.dtype) -> Any:  # noqa: ANN401 - a model of transformers
    """Load all of a model that is not of its language part, in a dtype.

    Raises UserError where a tensor is missing, or there is one too many.
    """
    import transformers

    fields = {name: each for name, each in whole.config.items() if name != "quantization_config"}
    with understanding(fields), quiet():
        config = transformers.AutoConfig.for_model(**fields)
        text = config.get_text_config()
        text.num_hidden_layers, text.vocab_size, text.pad_token_id = 0, 1, None
        if getattr(text, "layer_types", None):
            text.layer_types = []
        weights = Weights(folder)
        model, info = getattr(transformers, whole.architecture).from_pretrained(
            None,
            config=config,
            state_dict={name: weights.read(name) for name in whole.stays},
            dtype=dtype,
            output_loading_info=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # so that they are told below
        )
    language = (f"{whole.family.body}.", f"{HEAD}.")
    missing = [each for each in info["missing_keys"] if not each.startswith(language)]
    wrong = [*missing, *info["unexpected_keys"], *map(str, info["mismatched_keys"])]
    if wrong:
        raise UserError(
            f"{folder}: transformers finds no place, or no weights, for {few(sorted(wrong))} of "
            "what sees: download the model again, or calibrate on text"
        )
    return model


def with_pictures(
    eyes: Eyes, progress: Progress, entering: Entering, ids: Tensor, seen: Sequence[Seen | None]
) -> Entering:
    """Put what is seen in windows among their embeddings; ids are (windows, length)."""
    hidden, lengths = entering.hidden.to(eyes.decoder.embed_tokens.like.dtype), entering.windows
    positions: dict[int, Positions] = {}
    with progress.task("Looking at pictures", len(seen)) as advance:
        for number, (length, each) in enumerate(zip(lengths.lengths, seen, strict=True)):
            if each is not None:
                merged = eyes.merged(ids[number, :length], each)
                hidden[number, :length] = merged.hidden
                if merged.positions is not None:
                    positions[number] = merged.positions
            advance(1)
    if not eyes.has_axes:
        eyes.free()
        return Entering(hidden, entering.weights)
    plain = eyes.counted_on(hidden[0])
    eyes.free()
    turns = Positions(*(those.repeat(len(hidden), 1, 1) for those in plain))
    for number, own in positions.items():
        for every, those in zip(turns, own, strict=True):
            every[number, : len(those)] = those
    return Entering(hidden, entering.weights, turns)
