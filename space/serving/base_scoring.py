"""What the bases say of answers: each is read by its own base, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event as Flag

from releases.models import Problem, Released

from hubq.errors import UserError
from serving.conversation import Kitchen, Line
from serving.messages import Failed, Finished, Loading, Queued
from serving.reaching import reach
from serving.token_divergence import Answer, Base, Examined, examine

BASE = "the base"  # what it is called in sentences
DONE = "done"


@dataclass(frozen=True)
class Reading:
    """What the base says of an answer, or why it says nothing."""

    name: str
    examined: Examined | None
    is_base: bool = False
    note: str = ""


def last_answer(line: Line) -> Answer | None:
    """Return what there is to examine."""
    return line.turns[-1].answer if line.turns else None


def _base(kitchen: Kitchen, line: Line, lines: Sequence[Line]) -> Base:
    """Return what a line's answer is held against; raise UserError where that isn't to be had."""
    model = kitchen.catalogue.pick(line.name)
    if isinstance(model, Problem):
        raise UserError(model.sentence)
    base: Released | Problem = kitchen.catalogue.pick(model.base)
    if isinstance(base, Problem):
        raise UserError(base.sentence)
    mine = last_answer(line)
    theirs = next((last_answer(each) for each in lines if each.name == base.name), None)
    # After different turns the base answered something else: then its preferences have to do.
    same = theirs is not None and mine is not None and theirs.messages == mine.messages
    return Base(reach(base, kitchen.catalogue.client), BASE, theirs if same else None)


def read_all(
    kitchen: Kitchen, lines: Sequence[Line], stop: Flag
) -> Iterator[tuple[tuple[Reading, ...], str]]:
    """Yield what was read so far, and what is being done; one answer's trouble is its own."""
    done: tuple[Reading, ...] = ()
    for line in lines:
        if stop.is_set():
            break
        for item in _read(kitchen, line, lines, stop):
            if isinstance(item, Reading):
                done = (*done, item)
            yield done, item if isinstance(item, str) else ""
    yield done, DONE


def _read(
    kitchen: Kitchen, line: Line, lines: Sequence[Line], stop: Flag
) -> Iterator[Reading | str]:
    """Yield sentences while an answer is read, and at last the reading."""
    answer = last_answer(line)
    if answer is None:
        yield Reading(line.name, None, note="there is no answer to examine")
        return
    try:
        base = _base(kitchen, line, lines)
    except UserError as error:
        yield Reading(line.name, None, note=str(error))
        return
    titled = answer.model_copy(update={"title": short(line.name)})
    for event in examine(kitchen.generation, base, titled, stop):
        match event:
            case Examined():
                yield Reading(line.name, event, is_base=answer.model == base.model)
            case Failed(text=text):
                yield Reading(line.name, None, note=text)
            case Finished():
                yield Reading(line.name, None, note="stopped")
            case Queued(place=place):
                yield f"Reading {line.name}: in the queue, place {place}"
            case Loading(text=text):
                yield f"Reading {line.name}: {text}"


def short(name: str) -> str:
    """Return a model's name without its organization."""
    return name.rpartition("/")[2]
