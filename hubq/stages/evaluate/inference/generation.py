"""Continuations that a loaded model writes, many prompts at a time.

A batch holds prompts of similar length, padded on the left, and as many as its tokens allow. What
all of them begin with is run once. A row that has written a stop string is done, whatever the
others do; the text is then cut as lm-eval cuts it.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)

from hubq.stages.evaluate.inference.budget import batches_for
from hubq.stages.evaluate.inference.nan_check import refuse_non_finite
from hubq.stages.evaluate.inference.prefixes import PrefixCache, common, longest_masked

if TYPE_CHECKING:
    from torch import Tensor

NEW_TOKENS = 256  # where a task doesn't say how many, as in lm-eval's `hf` model
WORTH_A_STEM = 512  # tokens that a common beginning must save
LOOK_BACK = 2  # tokens more than a stop string has: it may come in other pieces


class Prompt(NamedTuple):
    """What a text goes on from."""

    ids: list[int]
    number: int  # its place among all that were asked for


class Text(NamedTuple):
    """What was written after a prompt."""

    number: int  # of the prompt
    text: str


class GenerationRequest(NamedTuple):
    """How texts are to be written."""

    new_tokens: int
    stops: list[str]
    options: dict[str, Any]  # for transformers' generate


def requested(arguments: Mapping[str, Any], end: str | None) -> GenerationRequest:
    """Read what a task of lm-eval asks for; `end` is the text of the token that ends one."""
    options = dict(normalize_gen_kwargs(dict(arguments), NEW_TOKENS))
    stops = handle_stop_sequences(options.pop("until"), eos=end)
    new_tokens = options.pop("max_gen_toks")
    if not options["do_sample"]:
        options.pop("temperature", None)
    return GenerationRequest(new_tokens, [stop for stop in stops if stop], options)


class Writer:
    """A loaded model that goes on from prompts."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ANN401 - transformers carries no types
        self.model = model
        self.tokenizer = tokenizer
        self.folder = folder
        self.most = batches_for(model).written  # tokens of prompts and of what is written

    def write(self, prompts: Iterable[Prompt], wanted: GenerationRequest) -> Iterator[list[Text]]:
        """Yield the texts of all prompts, the longest first, as they are done."""
        import torch

        prefix, begin = PrefixCache(self.model), list[int]()
        left = sorted(prompts, key=lambda prompt: -len(prompt.ids))
        with torch.inference_mode():
            while left:
                rows = max(1, self.most // (len(left[0].ids) + wanted.new_tokens))
                batch, left = left[:rows], left[rows:]
                begin = self._run_prefix(prefix, begin, batch, wanted)
                yield self._write(batch, prefix, wanted)

    def _run_prefix(
        self, prefix: PrefixCache, begin: list[int], batch: list[Prompt], wanted: GenerationRequest
    ) -> list[int]:
        """Run what all prompts of a batch begin with, where that saves something; return it."""
        first = batch[0].ids
        shared = min(len(first) - 1, *(common(first, prompt.ids[:-1]) for prompt in batch))
        masked = len(first) + wanted.new_tokens <= longest_masked(self.model)
        if not masked or shared * (len(batch) - 1) < WORTH_A_STEM:
            shared = 0
        kept = common(begin, first[:shared])
        prefix.grow(kept, first[kept:shared])
        return first[:shared]

    def _write(
        self, batch: list[Prompt], prefix: PrefixCache, wanted: GenerationRequest
    ) -> list[Text]:
        """Let transformers go on from a batch; return the texts without what follows a stop."""
        from transformers import LogitsProcessorList, StoppingCriteriaList

        ids, seen = (given.to(self.model.device) for given in self._padded(batch, prefix.depth))
        length = {} if "max_length" in wanted.options else {"max_new_tokens": wanted.new_tokens}
        written = self.model.generate(
            input_ids=ids,
            attention_mask=seen,
            past_key_values=prefix.cache(len(batch)) if prefix.depth else None,
            stopping_criteria=StoppingCriteriaList([self._stopping(ids.shape[1], wanted)]),
            logits_processor=LogitsProcessorList([self._refusing(seen)]),
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **length,
            **wanted.options,
        )
        texts = self.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        return [
            Text(prompt.number, postprocess_generated_text(text, wanted.stops, None))
            for prompt, text in zip(batch, texts, strict=True)
        ]

    def _padded(self, batch: list[Prompt], depth: int) -> "tuple[Tensor, Tensor]":
        """Return (rows, length) tokens and what of them is no padding, which follows the prefix."""
        import torch

        length = max(len(prompt.ids) for prompt in batch)
        padding = [length - len(prompt.ids) for prompt in batch]
        fill = self.tokenizer.pad_token_id
        ids = [
            prompt.ids[:depth] + [fill] * count + prompt.ids[depth:]
            for prompt, count in zip(batch, padding, strict=True)
        ]
        seen = torch.ones(len(batch), length, dtype=torch.long)
        for row, count in enumerate(padding):
            seen[row, depth : depth + count] = 0
        return torch.tensor(ids), seen

    def _stopping(self, length: int, wanted: GenerationRequest) -> Any:  # noqa: ANN401 - a StoppingCriteria
        """Return what tells, row by row, whether a stop string was just written."""
        import torch

        pieces = self.tokenizer(wanted.stops, add_special_tokens=False)["input_ids"]
        back = max(map(len, pieces), default=0) + LOOK_BACK

        def stopped(ids: "Tensor", scores: object, **options: object) -> "Tensor":
            ends = self.tokenizer.batch_decode(ids[:, length:][:, -back:])
            found = [any(stop in end for stop in wanted.stops) for end in ends]
            return torch.tensor(found, device=ids.device)

        return stopped

    def _refusing(self, seen: "Tensor") -> Any:  # noqa: ANN401 - a LogitsProcessor
        """Return what raises UserError where a score is NaN or infinite, and changes nothing."""

        def refuse(ids: "Tensor", scores: "Tensor") -> "Tensor":
            bad = (scores.isnan() | (scores == float("inf"))).any(-1)
            if bad.any():
                row = int(bad.int().argmax())
                prompt = ids[row, : seen.shape[1]][seen[row].bool()]
                refuse_non_finite(self.model, prompt[None], self.folder)
            return scores

        return refuse
