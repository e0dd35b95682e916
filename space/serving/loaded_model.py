"""A loaded model with its tokenizer, and what it says of the token to come."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from hubq.chat import UNFINISHED, Speaker, ends_of, lay_out
from serving.messages import Alternative, Message

if TYPE_CHECKING:
    from torch import Tensor

ALTERNATIVES = 5


@dataclass(frozen=True)
class Voice(Speaker):
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
        return lay_out(self.tokenizer, [each.model_dump() for each in messages])

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
