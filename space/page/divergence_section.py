"""The section where answers are held against the base: where they diverge, token by token."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from page.answer_html import announcement, grid, notice, panel
from page.events import (
    COMPARE,
    COUNT,
    QUIET,
    STREAM,
    OpenStreams,
    Shown,
    Tab,
    click_number,
    live_region,
    visitor_state,
)
from page.token_html import By, legend, shaded, summary
from serving.conversation import (
    DONE,
    BaseScoring,
    Chat,
    ComparisonService,
    last_answer,
    score_by_bases,
)
from serving.messages import Failed
from serving.streams import Watch, listen

ABOUT = (
    "## Where they diverge from the base\n"
    "The base reads each answer token by token: the stronger the shade, the less likely the base "
    "was to say that. Point at a token, or reach it with Tab, for its probabilities."
)
SHADES: list[tuple[str, By]] = [
    ("how improbable the base finds a token", "probability"),
    ("how far the model is from the base there (KL divergence)", "kl"),
]
NOT_GREEDY = (
    "Only greedy answers show where they diverge: set the temperature to 0 and the repetition "
    "penalty to 1, then regenerate."
)
ABOUT_A_PICTURE = (
    "Where answers diverge is shown without a picture only: none is kept, for the base to see."
)
IS_BASE = "The base itself: how sure it was of its own words."


class DivergenceSection(NamedTuple):
    """The components of the section, and what becomes of them as comparisons come and go."""

    readings: gr.State
    why: gr.HTML
    diverge: gr.Button
    column: gr.Column
    shown: gr.HTML
    halt: gr.Button  # of the comparison, which stops the reading too
    aloud: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """List the components."""
        return [*self]

    def offered(self, chat: Chat) -> Shown:
        """Forget what was examined; offer to examine what is there now."""
        can = any(last_answer(line) for line in chat.lines)
        stands = any(line.turns and line.turns[-1].text for line in chat.lines)
        words = ABOUT_A_PICTURE if chat.picture else NOT_GREEDY
        why = notice(words) if stands and not can else ""
        offer = {self.diverge: gr.update(visible=can), self.why: why}
        return {
            **self.withdrawn(),
            **offer,
            **({self.aloud: announcement(words)} if why else {}),
        }

    def withdrawn(self) -> Shown:
        """Show nothing of it: other answers are coming."""
        away = {each: gr.update(visible=False) for each in (self.diverge, self.column)}
        return {self.readings: (), self.shown: "", self.why: "", **away}

    def seen(self, found: tuple[BaseScoring, ...], by: By, status: str) -> Shown:
        """Show what the base said so far, and what it is doing."""
        status = status or "Reading the answers"
        busy = "" if status == DONE else notice(status)
        return {
            self.aloud: announcement("The answers have been read" if status == DONE else status),
            self.readings: found,
            self.halt: gr.update(interactive=status != DONE),
            self.diverge: gr.update(visible=False),
            self.column: gr.update(visible=True),
            self.shown: busy + _panels(found, by),
        }


def divergence_section(
    service: ComparisonService, streams: OpenStreams, chat: gr.State, halt: gr.Button
) -> DivergenceSection:
    """Lay the section out; `halt` stops the reading too."""
    readings, click = visitor_state(()), click_number()
    why = gr.HTML(elem_id="why-not", elem_classes="hubq-shown")
    diverge = gr.Button(
        "See where they diverge", visible=False, elem_id="diverge", variant="primary"
    )
    with gr.Column(visible=False, elem_id="divergence") as column:
        gr.Markdown(ABOUT)
        by = gr.Radio(SHADES, value="probability", label="Shade by")
        shades = gr.HTML(legend(), elem_classes="hubq-shown")
        shown = gr.HTML(elem_id="diverged", elem_classes="hubq-shown")

    section = DivergenceSection(readings, why, diverge, column, shown, halt, live_region())

    def see(request: gr.Request, click: int | None, chat: Chat, by: By) -> Iterator[Shown]:
        """Let the bases read the answers, one after the other; other answers end it."""
        tab = Tab(request.session_hash or "", COMPARE)
        show = partial(_see, service, section, chat, by)
        nothing = {halt: gr.skip()}
        yield from streams.stream(tab, int(click or 0), show, nothing, replaces=False)

    def reshade(found: Sequence[BaseScoring], by: By) -> tuple[str, str]:
        return legend(by), _panels(found, by)

    diverge.click(see, [click, chat, by], section.outputs, js=COUNT, **STREAM)
    by.input(reshade, [readings, by], [shades, shown], **QUIET)
    return section


def _see(
    service: ComparisonService, section: DivergenceSection, chat: Chat, by: By, watch: Watch
) -> Iterator[Shown]:
    """Show how far the reading is; what was stopped before its turn is said to be."""
    found: tuple[BaseScoring, ...] = ()
    yield section.seen(found, by, "")
    for came in listen([partial(score_by_bases, service, chat.lines, watch.stop)], watch):
        _, last = came[-1]
        found, status = (found, last.text) if isinstance(last, Failed) else last
        yield section.seen(found, by, status)
    unread = chat.lines[len(found) :]
    found += tuple(BaseScoring(line.name, None, note="stopped") for line in unread)
    yield section.seen(found, by, DONE)


def _panels(found: Iterable[BaseScoring], by: By) -> str:
    return grid(panel(each.name, [_inside(each, by)]) for each in found)


def _inside(reading: BaseScoring, by: By) -> str:
    """Return the summary and the shaded tokens, or why there are none."""
    if reading.examined is None:
        return f'<p class="hubq-note hubq-failed">{escape(reading.note)}</p>'
    said = IS_BASE if reading.is_base else summary(reading.examined)
    return f'<p class="hubq-summary">{escape(said)}</p>{shaded(reading.examined, by)}'
