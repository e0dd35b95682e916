"""The section where answers are held against the base: where they part, token by token."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from threading import Event as Flag
from typing import Any, NamedTuple

import gradio as gr
from chat import Chat, Kitchen, Line
from divergence import Answer, Base, Examined, examine
from exchange import Failed, Finished, Loading, Queued
from listening import Watch, listen
from models import Problem, Released
from reaching import reach
from shading import By, legend, shaded
from showing import grid, notice, panel, said_aloud
from step import COUNT, QUIET, STREAM, Shown, aloud, click_number, kept
from stops import COMPARE, Stops, Tab
from wording import summary

from hubq.errors import UserError

ABOUT = (
    "## Where they part from the base\n"
    "Each answer is read by the base, token by token: the deeper the shade, the less the base "
    "would have said that. Point at a token, or reach it with Tab, for its probabilities."
)
SHADES: list[tuple[str, By]] = [
    ("how improbable the base finds a token", "probability"),
    ("how far the model is from the base there (KL divergence)", "kl"),
]
NOT_GREEDY = (
    "Where answers part can be seen of greedy answers only: set the temperature to 0 and the "
    "repetition penalty to 1, then regenerate."
)
BASE = "the base"  # what it is called in sentences
IS_BASE = "The base itself: how sure it was of its own words."
DONE = "done"


@dataclass(frozen=True)
class Reading:
    """What the base says of an answer, or why it says nothing."""

    name: str
    examined: Examined | None
    is_base: bool = False
    note: str = ""


class Parting(NamedTuple):
    """The components of the section, and what becomes of them as comparisons come and go."""

    readings: gr.State
    why: gr.HTML
    part: gr.Button
    section: gr.Column
    shown: gr.HTML
    halt: gr.Button  # of the comparison, which stops the reading too
    aloud: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """List the components."""
        return [*self]

    def offered(self, chat: Chat) -> Shown:
        """Forget what was examined; offer to examine what is there now."""
        can = any(_last(line) for line in chat.lines)
        stands = any(line.turns and line.turns[-1].text for line in chat.lines)
        why = notice(NOT_GREEDY) if stands and not can else ""
        offer = {self.part: gr.update(visible=can), self.why: why}
        return {
            **self.withdrawn(),
            **offer,
            **({self.aloud: said_aloud(NOT_GREEDY)} if why else {}),
        }

    def withdrawn(self) -> Shown:
        """Show nothing of it: other answers are coming."""
        away = {each: gr.update(visible=False) for each in (self.part, self.section)}
        return {self.readings: (), self.shown: "", self.why: "", **away}

    def seen(self, found: tuple[Reading, ...], by: By, status: str) -> Shown:
        """Show what the base said so far, and what it is doing."""
        status = status or "Reading the answers"
        busy = "" if status == DONE else notice(status)
        return {
            self.aloud: said_aloud("The answers are read" if status == DONE else status),
            self.readings: found,
            self.part: gr.update(visible=False),
            self.section: gr.update(visible=True),
            self.shown: busy + _panels(found, by),
        }


def parting_section(kitchen: Kitchen, stops: Stops, chat: gr.State, halt: gr.Button) -> Parting:
    """Lay the section out; `halt` stops the reading too."""
    readings, click = kept(()), click_number()
    why = gr.HTML(elem_id="why-not", elem_classes="hubq-shown")
    part = gr.Button("See where they part", visible=False, elem_id="part", variant="primary")
    with gr.Column(visible=False, elem_id="parting") as section:
        gr.Markdown(ABOUT)
        by = gr.Radio(SHADES, value="probability", label="Shade by")
        shades = gr.HTML(legend(), elem_classes="hubq-shown")
        shown = gr.HTML(elem_id="parted", elem_classes="hubq-shown")

    parting = Parting(readings, why, part, section, shown, halt, aloud())

    def see(request: gr.Request, click: int | None, chat: Chat, by: By) -> Iterator[Shown]:
        """Let the bases read the answers, one after the other; other answers end it."""
        tab = Tab(request.session_hash or "", COMPARE)
        show = partial(_see, kitchen, parting, chat, by)
        nothing = {halt: gr.skip()}
        yield from stops.stream(tab, int(click or 0), show, nothing, replaces=False)

    def reshade(found: Sequence[Reading], by: By) -> tuple[str, str]:
        return legend(by), _panels(found, by)

    part.click(see, [click, chat, by], parting.outputs, js=COUNT, **STREAM)
    by.input(reshade, [readings, by], [shades, shown], **QUIET)
    return parting


def _see(kitchen: Kitchen, parting: Parting, chat: Chat, by: By, watch: Watch) -> Iterator[Shown]:
    """Show how far the reading is; what was stopped before its turn is said to be."""
    found: tuple[Reading, ...] = ()
    yield {**parting.seen(found, by, ""), parting.halt: gr.update(interactive=True)}
    for came in listen([partial(_read_all, kitchen, chat.lines, watch.stop)], watch):
        _, last = came[-1]
        found, status = (found, last.text) if isinstance(last, Failed) else last
        yield parting.seen(found, by, status)
    unread = chat.lines[len(found) :]
    found += tuple(Reading(line.name, None, note="stopped") for line in unread)
    yield {**parting.seen(found, by, DONE), parting.halt: gr.update(interactive=False)}


def _last(line: Line) -> Answer | None:
    return line.turns[-1].answer if line.turns else None


def _base(kitchen: Kitchen, line: Line, lines: Sequence[Line]) -> Base:
    """Return what a line's answer is held against; raise UserError where that isn't to be had."""
    model = kitchen.catalogue.pick(line.name)
    if isinstance(model, Problem):
        raise UserError(model.sentence)
    base: Released | Problem = kitchen.catalogue.pick(model.base)
    if isinstance(base, Problem):
        raise UserError(base.sentence)
    mine = _last(line)
    theirs = next((_last(each) for each in lines if each.name == base.name), None)
    # After different turns the base answered something else: then its preferences have to do.
    same = theirs is not None and mine is not None and theirs.messages == mine.messages
    return Base(reach(base, kitchen.catalogue.client), BASE, theirs if same else None)


def _read_all(
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
    answer = _last(line)
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


def _panels(found: Iterable[Reading], by: By) -> str:
    return grid(panel(each.name, [_inside(each, by)]) for each in found)


def _inside(reading: Reading, by: By) -> str:
    """Return the summary and the shaded tokens, or why there are none."""
    if reading.examined is None:
        return f'<p class="hubq-note hubq-failed">{escape(reading.note)}</p>'
    said = IS_BASE if reading.is_base else summary(reading.examined)
    return f'<p class="hubq-summary">{escape(said)}</p>{shaded(reading.examined, by)}'
