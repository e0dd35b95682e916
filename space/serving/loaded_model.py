"""A loaded model with its tokenizer, and what it thinks of an answer: one forward pass.

For the divergence of two models at each position both distributions must meet. The first model
writes its log-probabilities to a file as float32 and the second reads them: 128,000 tokens * 512
positions are 262 MB for some seconds. A list of the likeliest tokens would be smaller and give a
lower bound only, and float16 errs by as much as an 8-bit model diverges.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.stages.evaluate.inference.chat import UNFINISHED, Speaker, Unfolding, ends_of
from serving.messages import Alternative, Message, Scored, Scores, Scoring

if TYPE_CHECKING:
    from torch import Tensor

ALTERNATIVES = 5
ROWS = 64  # positions at a time


@dataclass(frozen=True)
class LoadedModel(Speaker):
    """A model that is ready to answer and to score."""

    @cached_property
    def vocabulary(self) -> str:
        """What the token ids mean, as a hash: equal for models that can be compared by token."""
        return sha256(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return ends_of(self.model)

    def read(self, messages: Sequence[Message]) -> "Tensor":  # (1, tokens)
        """Lay messages out as the repo says; raise UserError where its template refuses them."""
        return self.inputs([each.words for each in messages])["input_ids"]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without those that only mark turns."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def alternatives(self, logprobs: "Tensor", last: int) -> tuple[Alternative, ...]:  # (V,)
        """List the likeliest tokens behind the token `last`."""
        values, ids = logprobs.topk(min(ALTERNATIVES, len(logprobs)))
        pairs = zip(ids.tolist(), values.exp().tolist(), strict=True)
        return tuple(
            Alternative(
                id=each,
                text=self.text_behind(last, each),
                probability=share,
                ends=each in self.ends,
            )
            for each, share in pairs
        )

    def text_behind(self, last: int, token: int) -> str:
        """Return a token's text, with the space that some tokenizers drop at a text's start."""
        before = str(self.tokenizer.decode([last]))
        both = str(self.tokenizer.decode([last, token]))
        if before.endswith(UNFINISHED) or not both.startswith(before):
            return str(self.tokenizer.decode([token]))
        return both[len(before) :]


def score(model: LoadedModel, order: Scoring, most_tokens: int) -> Scores:
    """Score each token of an answer; raise UserError when there is none, or too many."""
    same = model.vocabulary == order.vocabulary
    prompt, answer = list(order.prompt), list(order.answer)
    if not same:
        prompt = model.read(order.messages)[0].tolist()
        answer = model.tokenizer(order.text, add_special_tokens=False)["input_ids"]
    _require_room(model, len(prompt), len(answer), most_tokens)
    logprobs = _logprobs(model, prompt, answer)
    kept = np.load(order.against, mmap_mode="r") if same and order.against else None
    if same and order.keep is not None:
        np.save(order.keep, logprobs.cpu().numpy())
    return Scores(
        aligned="tokens" if same else "text",
        tokens=_scored(model, prompt[-1], answer, logprobs, kept),
    )


def _require_room(model: LoadedModel, prompt: int, answer: int, most_tokens: int) -> None:
    config = model.model.config.get_text_config()
    reach = getattr(config, "max_position_embeddings", None) or most_tokens
    if prompt == 0 or answer == 0:
        raise UserError("there is nothing to score: the prompt or the answer is empty")
    if prompt + answer > min(most_tokens, reach):
        raise UserError(
            f"prompt and answer have {prompt + answer:,} tokens, of which "
            f"{min(most_tokens, reach):,} can be scored"
        )


def _logprobs(model: LoadedModel, prompt: list[int], answer: list[int]) -> Tensor:  # (answer, V)
    """Return the log-probabilities before each token of the answer, in float32."""
    ids = torch.tensor([prompt + answer], device=model.model.device)
    with torch.inference_mode():
        output = model.model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1)
        return torch.cat(
            [rows.float().log_softmax(-1) for rows in output.logits[0, :-1].split(ROWS)]
        )


def _scored(
    model: LoadedModel,
    last: int,
    answer: Sequence[int],
    logprobs: Tensor,  # (answer, V)
    kept: np.ndarray | None,  # (answer, V)
) -> tuple[Scored, ...]:
    unfolding = Unfolding(model.text)
    rows = [None] * len(answer) if kept is None else kept
    found = []
    for row, before, token, base in zip(logprobs, [last, *answer[:-1]], answer, rows, strict=True):
        found.append(
            Scored(
                id=token,
                text="" if token in model.ends else unfolding.take(token),
                ends=token in model.ends,
                probability=float(row[token].exp()),
                rank=1 + int((row > row[token]).sum()),
                alternatives=model.alternatives(row, before),
                kl=None if base is None else _divergence(base, row),
            )
        )
    return tuple(found)


def _divergence(kept: np.ndarray, row: Tensor) -> float:
    """Return KL(kept || row) in nats.

    Embeddings of one model may be padded more than another's: no token has these last rows.
    """
    width = min(len(kept), len(row))
    base = torch.from_numpy(np.array(kept[:width])).to(row.device).log_softmax(-1)
    own = row[:width].log_softmax(-1)
    return max(0.0, float((base.exp() * (base - own)).nansum()))
