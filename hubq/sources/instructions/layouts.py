"""How a pair is laid out: as Alpaca's sections, by the model's own chat template, or as it stands.

All give the pair's parts in turn: what the model reads, and what it is to answer. Alpaca's words
are those of the repositories of QLoRA and IR-QLoRA, a space behind the last mark included: models
that were trained on them know no others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hubq.sources.auxiliary_files import DATE
from hubq.sources.chat_template import laid_out
from hubq.sources.instructions.rows import Pair, Turn

REQUEST = "Write a response that appropriately completes the request.\n\n"
ALONE = f"Below is an instruction that describes a task. {REQUEST}"
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    f"context. {REQUEST}"
)
INSTRUCTION, INPUT, RESPONSE = "### Instruction:\n", "### Input:\n", "### Response: "

NO_ROOM = "more than a question and an answer, for which the layout has no room"
REFUSED = "a conversation that the chat template refuses"
REWRITTEN = "a conversation whose beginning the chat template changes as it goes on"


class Exchange(NamedTuple):
    """What the model reads, and what it is to learn to go on with."""

    prompt: str
    answer: str


Laid = list[Exchange] | str  # or why a pair can't be laid out so


def alpaca_prompt(instruction: str, context: str = "") -> str:
    """Return what Alpaca's layout puts before an answer."""
    if not context:
        return f"{ALONE}{INSTRUCTION}{instruction}\n\n{RESPONSE}"
    return f"{WITH_INPUT}{INSTRUCTION}{instruction}\n\n{INPUT}{context}\n\n{RESPONSE}"


def plain_prompt(instruction: str, context: str = "") -> str:
    """Return what stands before an answer where nothing is added; an input stands below."""
    return f"{instruction}\n\n{context}" if context else instruction


# By the names that recipes have for them; the chat template is the model's own.
PROMPTS: Mapping[str, Callable[[str, str], str]] = {"alpaca": alpaca_prompt, "plain": plain_prompt}


def alone(pair: Pair, *, prompt: Callable[[str, str], str]) -> Laid:
    """Lay a question and its answer out by what is put before an answer."""
    if [turn.role for turn in pair.turns] != ["user", "assistant"]:
        return NO_ROOM
    question, answer = (turn.content for turn in pair.turns)
    return [Exchange(prompt(question, pair.input), answer)]


def by_chat_template(pair: Pair, tokenizer: Any) -> Laid:  # noqa: ANN401 - see tokenizer.py
    """Lay a conversation out as the tokenizer's chat template does, an exchange an answer.

    What stands before an answer is what the template makes of asking for it. Raises
    ChatTemplateError where it refuses.
    """
    turns = _with_input(pair)
    exchanges: list[Exchange] = []
    before = ""
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            prompt = _text(tokenizer, turns[:number], finished=False)
            whole = _text(tokenizer, turns[: number + 1], finished=True)
            if not prompt.startswith(before) or not whole.startswith(prompt):
                return REWRITTEN
            exchanges.append(Exchange(prompt[len(before) :], whole[len(prompt) :]))
            before = whole
    return exchanges


def as_a_whole(pair: Pair, tokenizer: Any) -> Laid:  # noqa: ANN401 - see tokenizer.py
    """Lay a conversation out as the tokenizer's chat template does, from its first to its last.

    Raises ChatTemplateError where it refuses.
    """
    return [Exchange("", _text(tokenizer, _with_input(pair), finished=True))]


def _with_input(pair: Pair) -> Sequence[Turn]:
    """Return the turns, in which what an instruction is applied to stands below it."""
    if not pair.input:
        return pair.turns
    asked, answer = pair.turns
    return [Turn(asked.role, plain_prompt(asked.content, pair.input)), answer]


def _text(tokenizer: Any, turns: Sequence[Turn], *, finished: bool) -> str:  # noqa: ANN401
    """Return what the template makes of turns, on any day the same."""
    messages = [turn._asdict() for turn in turns]
    return laid_out(tokenizer, messages, finished=finished, variables={"date_string": DATE})
