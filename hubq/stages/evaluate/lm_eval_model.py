"""The loaded model as lm-eval sees it: lm-eval says what a task means, this says how it is run.

Texts become tokens as in lm-eval's own `hf` model, so the answers are the same; what differs is
that each distinct token is run once (prefixes.py), beside others without padding (batching.py),
and that only what is scored goes through the head (likelihoods.py). Memory doesn't grow with the
number of requests, and a number that is none is refused with the layer where it begins.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import configure_pad_token, resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from hubq.errors import UserError
from hubq.machine.progress import Advance, Progress
from hubq.sources.chat_template import ChatTemplateError, laid_out, template_of
from hubq.sources.tokenizer import tokenizer_of
from hubq.stages.evaluate.inference import prefixes
from hubq.stages.evaluate.inference.decoder import ON_DISK
from hubq.stages.evaluate.inference.generation import Prompt, Writer, requested
from hubq.stages.evaluate.inference.likelihoods import Scorer
from hubq.stages.evaluate.inference.vllm_engine import VllmWriter

CHARACTERS_AT_ONCE = 1 << 22  # of the requests whose tokens are held at a time

Encoded = tuple[object, list[int], list[int]]  # what it stands for, context, continuation


class LanguageModel(TemplateLM):  # type: ignore[misc] # lm-eval carries no types
    """A loaded model with its tokenizer."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - transformers carries no types
        tokenizer: Any,  # noqa: ANN401
        folder: Path,
        progress: Progress,
        title: str,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = configure_pad_token(tokenizer, model_config=model.config)
        self.folder = folder
        self.progress = progress
        self.title = title
        self.max_length = resolve_max_length(model.config, tokenizer)
        self._scorer = Scorer(model, folder)
        self.writer: Writer | VllmWriter = Writer(model, tokenizer, folder)
        self._ids = lru_cache(maxsize=2)(self._tokenized)  # all answers to a question follow it
        begin = tokenizer.bos_token_id
        self._prefix = tokenizer.eos_token_id if begin is None else begin
        self._begin = "" if self._prefix is None else tokenizer.decode(self._prefix)

    @property
    def eot_token_id(self) -> int | None:
        """Return the token that ends a text."""
        found: int | None = self.tokenizer.eos_token_id
        return found

    @property
    def prefix_token_id(self) -> int:
        """Return the token that stands before a text without context."""
        if self._prefix is None:
            raise UserError(
                f"{self.folder}: {self.title} asks how likely a text without context "
                "is, but the tokenizer has neither a begin nor an end token to put "
                "before it; use another task"
            )
        found: int = self._prefix
        return found

    @property
    def tokenizer_name(self) -> str:
        """Name the tokenizer, for lm-eval's cache of requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as the model's template writes it, as lm-eval's `hf` model does."""
        if template_of(self.tokenizer) is None:
            raise UserError(
                f"{self.folder} has no chat template, which {self.title} was asked to use; "
                "measure without it, or use the model that was tuned for conversations"
            )
        try:
            return laid_out(self.tokenizer, chat_history, prompted=add_generation_prompt)
        except ChatTemplateError:  # it knows no system role
            others = [message for message in chat_history if message["role"] != "system"]
            if len(others) == len(chat_history):
                raise
            return laid_out(self.tokenizer, others, prompted=add_generation_prompt)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: object
    ) -> list[int]:
        """Tokenize, with the tokenizer's special tokens unless the text begins with one."""
        if add_special_tokens is None and self._begin and string.startswith(self._begin):
            add_special_tokens = False
        return list(self._ids(string, add_special_tokens))

    def _tokenized(self, string: str, special: bool | None) -> list[int]:
        given = {} if special is None else {"add_special_tokens": special}
        ids: list[int] = self.tokenizer.encode(string, **given)
        return ids

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Return each continuation's log-probability, and whether greedy decoding gives it."""
        answers: list[tuple[float, bool]] = []
        with self.progress.task(self.title, len(requests)) as advance:
            for some in _slabs(requests):
                encoded = [self._encoded(*request.args) for request in some]
                answers += self._loglikelihood_tokens(encoded, advance)
        return answers

    def _encoded(self, context: str, continuation: str) -> Encoded:
        """Tokenize a continuation after its context, or after the prefix where that is empty."""
        if context:
            before, ids = self._encode_pair(context, continuation)
            if before:  # no white space alone, which becomes the continuation's
                return None, before, ids
        else:
            ids = self.tok_encode(continuation, add_special_tokens=False)
        prefix = self.prefix_token_id
        return (None, ids[:1], ids[1:]) if ids[:1] == [prefix] else (None, [prefix], ids)

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], advance: Advance = lambda steps: None, **kwargs: object
    ) -> list[tuple[float, bool]]:
        """Return what `loglikelihood` returns, for tokens."""
        sequences = (self._cut(each, number) for number, each in enumerate(requests))
        answers: dict[int, tuple[float, bool]] = {}
        for found in self._scorer.score(sequences):
            answers |= {each.number: (each.value, each.greedy) for each in found}
            advance(len(found))
        return [answers[number] for number in range(len(requests))]

    def _cut(self, encoded: Encoded, number: int) -> prefixes.Sequence:
        """Leave away what is too long for the model, at the beginning."""
        _, context, continuation = encoded
        if not 0 < len(continuation) <= self.max_length:
            raise UserError(
                f"{self.title} has an answer of {len(continuation):,} tokens; an answer needs at "
                f"least one, and this model takes at most {self.max_length:,}: use another task"
            )
        ids = (context + continuation)[-(self.max_length + 1) :]
        return prefixes.Sequence(ids[:-1], continuation, number)

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Return each text's log-probability, in windows as long as the model takes."""
        answers: list[float] = []
        with self.progress.task(self.title, len(requests)) as advance:
            for some in _slabs(requests):
                windows = [list(self._windows(*request.args)) for request in some]
                found = iter(self._loglikelihood_tokens(list(chain.from_iterable(windows))))
                answers += [sum(next(found)[0] for _ in each) for each in windows]
                advance(len(some))
        return answers

    def _windows(self, text: str) -> Iterator[Encoded]:
        """Cut a text into the windows that lm-eval scores."""
        ids = self.tok_encode(text)
        for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1):
            yield None, *make_disjoint_window(window)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[str]:
        """Return what the model writes after each context."""
        if hasattr(self.model, ON_DISK):  # by its definition it would not write
            raise UserError(
                f"{self.title} lets the model write, which would read all of its weights for each "
                "token: leave it out, or use a machine with memory for the whole model"
            )
        answers: list[str] = []
        with self.progress.task(self.title, len(requests)) as advance:
            for some in _slabs(requests):
                answers += self._generated(some, advance)
        return answers

    def _generated(self, requests: Sequence[Instance], advance: Advance) -> list[str]:
        """Write after these contexts, those with the same arguments together."""
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(number)
        end = None if self.eot_token_id is None else self.tokenizer.decode(self.eot_token_id)
        texts: dict[int, str] = {}
        for numbers in groups.values():
            wanted = requested(requests[numbers[0]].args[1], end)
            prompts = [self._prompt(requests[each], each, wanted.new_tokens) for each in numbers]
            for found in self.writer.write(prompts, wanted):
                texts |= found
                advance(len(found))
        return [texts[number] for number in range(len(requests))]

    def _prompt(self, request: Instance, number: int, new_tokens: int) -> Prompt:
        """Tokenize a context; leave away what leaves no room for the text, at the beginning."""
        room = self.max_length - new_tokens
        if room < 1:
            raise UserError(
                f"{self.title} asks for texts of {new_tokens:,} tokens, but {self.folder} takes "
                f"only {self.max_length:,} together with the question; use another task"
            )
        ids = self.tok_encode(request.args[0]) or [self.prefix_token_id]
        return Prompt(ids[-room:], number)


def _slabs(requests: Sequence[Instance]) -> Iterator[list[Instance]]:
    """Yield requests, in their order, as many at a time as should be held as tokens."""
    slab: list[Instance] = []
    held = 0
    for request in requests:
        slab.append(request)
        held += sum(len(each) for each in request.args if isinstance(each, str))
        if held >= CHARACTERS_AT_ONCE:
            yield slab
            slab, held = [], 0
    if slab:
        yield slab


def language_model(
    model: Any,  # noqa: ANN401 - transformers carries no types
    folder: Path,
    progress: Progress,
    title: str,
) -> LanguageModel:
    """Wrap a loaded model for lm-eval, with the tokenizer of its folder."""
    return LanguageModel(model, tokenizer_of(folder), folder, progress, title)
