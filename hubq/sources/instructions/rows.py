"""The forms of a row that teaches: which fields it has, and what makes it no pair.

A row that can't be learnt from is told by a reason in few words, which its reader counts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

NOTHING = "nothing in the row"
NO_QUESTION = "no instruction"
NO_ANSWER = "no answer"
WRONG_KIND = "a field that is not text"
WRONG_ROLE = "a role that is not system, user or assistant"
OTHER_FORM = "fields other than those of the file"
HALF = "half a character"
TOO_LONG = "more than 1,000,000 characters"
TOO_MANY = "more than 100 turns"

CHARACTERS = 1_000_000  # of a row
TURNS = 100
ROLES = ("system", "user", "assistant")
Fields = Mapping[str, Any]


class Turn(NamedTuple):
    """What one side of a conversation says."""

    role: str  # one of ROLES
    content: str


class Pair(NamedTuple):
    """A conversation that ends with an answer; what the assistant says is to be learnt."""

    turns: tuple[Turn, ...]
    input: str = ""  # what an instruction, the only turn before the answer, is applied to

    @property
    def characters(self) -> int:
        """How long all its texts are together."""
        return len(self.input) + sum(len(turn.content) for turn in self.turns)


Read = Pair | str  # or why a row is none


class Form(NamedTuple):
    """A form of rows, told by the fields that each must have."""

    fields: tuple[str, ...]
    read: Callable[[Fields], Read]
    optional: tuple[str, ...] = ()


def form_of(names: Iterable[str], forms: Sequence[Form] | None = None) -> Form | None:
    """Return the first of the forms (FORMS) whose fields are all there; None: there is none."""
    there = set(names)
    return next((form for form in forms or FORMS if there.issuperset(form.fields)), None)


def form_in(fields: Sequence[str]) -> Form:
    """Return the form of conversations whose messages, or question and answer, are in fields."""
    if len(fields) == 1:
        return Form((fields[0],), partial(_messages, field=fields[0]))
    question, answer = fields
    return Form((question, answer), partial(_of_texts, asks=question, answers=answer))


def asked(question: str, answer: str, context: str = "") -> Read:
    """Make a pair of a question and its answer, or say why it is none."""
    texts = (question, context, answer)
    if not any(text.strip() for text in texts):
        return NOTHING
    if not question.strip():
        return NO_QUESTION
    turns = (Turn("user", question), Turn("assistant", answer))
    return _checked(Pair(turns, context if context.strip() else ""))


def _instruction(row: Fields) -> Read:
    return _of_texts(row, "instruction", "output", row.get("input"))


def _prompt(row: Fields) -> Read:
    return _of_texts(row, "prompt", "completion")


def _of_texts(row: Fields, asks: str, answers: str, context: object = None) -> Read:
    """Read a row with a text each for question and answer, of which any may be null."""
    if asks not in row or answers not in row:
        return OTHER_FORM
    read = (row[asks], row[answers], context)
    texts: list[Any] = ["" if each is None else each for each in read]
    if not all(isinstance(each, str) for each in texts):
        return WRONG_KIND
    return asked(*texts)


def _messages(row: Fields, field: str = "messages") -> Read:
    """Read a row with a list of turns; what follows the last answer teaches nothing."""
    said = row.get(field, row)
    if said is row:
        return OTHER_FORM
    if said is None or said == []:
        return NOTHING
    if not isinstance(said, list):
        return WRONG_KIND
    if len(said) > TURNS:
        return TOO_MANY
    turns: list[Turn] = []
    for each in said:
        turn = _turn(each)
        if isinstance(turn, str):
            return turn
        turns.append(turn)
    while turns and turns[-1].role != "assistant":
        turns.pop()
    return _checked(Pair(tuple(turns)))


def _turn(said: object) -> Turn | str:
    """Read a turn, or say why it is none."""
    if not isinstance(said, Mapping):
        return WRONG_KIND
    role, content = said.get("role"), said.get("content")
    if content is None and "content" in said:
        content = ""
    if not isinstance(role, str) or not isinstance(content, str):
        return WRONG_KIND
    return Turn(role, content) if role in ROLES else WRONG_ROLE


def _checked(pair: Pair) -> Read:
    """Return a pair whose every answer has text and follows a question, or why it hasn't."""
    roles = [turn.role for turn in pair.turns]
    answers = [turn.content for turn in pair.turns if turn.role == "assistant"]
    if not answers or not all(answer.strip() for answer in answers):
        return NO_ANSWER
    first = roles.index("assistant")
    if not any(turn.role == "user" and turn.content.strip() for turn in pair.turns[:first]):
        return NO_QUESTION
    if pair.characters > CHARACTERS:
        return TOO_LONG
    try:
        for text in (pair.input, *(turn.content for turn in pair.turns)):
            text.encode()
    except UnicodeEncodeError:
        return HALF
    return pair


FORMS = (
    Form(("instruction", "output"), _instruction, ("input",)),
    Form(("prompt", "completion"), _prompt),
    Form(("messages",), _messages),
)
KNOWN = (
    "instruction, perhaps input, and output; prompt and completion; or messages, a list of "
    "objects with role and content"
)
