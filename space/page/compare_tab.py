"""The tab where models answer the same prompt side by side, and what its buttons do.

To ask, ask again, stop, clear; where the answers diverge is a section of its own.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from hubq.errors import UserError
from page.answer_html import announcement, conversation, notice, progress_announcement, running
from page.divergence_section import DivergenceSection, divergence_section
from page.events import (
    COMPARE,
    COUNT,
    QUIET,
    STREAM,
    OpenStreams,
    Shown,
    Step,
    Tab,
    Value,
    click_number,
    visitor_state,
)
from page.picture_upload import COUNT_AND_SHOW, TakenPicture, about, picture_input, taken
from page.sampling_settings import MODELS, Comparison, SamplingControls, read_settings, to_query
from serving.conversation import Chat, ComparisonService, begin
from serving.generation import Limits
from serving.messages import Message, Model, Request, Settings
from serving.streams import Start, Watch, answer_together

EXAMPLES = (
    "Why is the sky blue? Answer in two sentences.",
    "Write a short poem about a llama who forgets numbers.",
    "A train leaves at 14:40 and arrives at 17:05. How long does it take?",
    "List three causes of the French Revolution.",
)
EARLIER = "A link contains only the last prompt, not what was said before it."
WITHOUT_PICTURE = "A link does not contain the picture: choose it again where the link is opened."
# A link is made whole where the page's own address is known.
WHOLE = "(query) => query && window.location.origin + window.location.pathname + '?' + query"
FEWEST = 2


class CompareTab(NamedTuple):
    """What a page needs of the tab: where a link's prompt goes, and what runs it."""

    prompt: gr.Textbox
    run_link: Step  # behind whether there is something to run


def compare_tab(
    service: ComparisonService,
    streams: OpenStreams,
    chosen: gr.Dropdown,
    settings: SamplingControls,
) -> CompareTab:
    """Lay the tab out; `chosen` has the names of the models."""
    chat, click = visitor_state(Chat()), click_number()
    prompt = gr.Textbox(
        label="Prompt",
        lines=3,
        max_lines=12,
        placeholder="Ask all of them the same (Shift+Enter sends)",
        elem_id="prompt",
    )
    gr.Examples([[each] for each in EXAMPLES], prompt, label="Examples", api_visibility="private")
    picture = picture_input(service, chosen)
    with gr.Row():
        ask = gr.Button("Compare", variant="primary", elem_id="ask", min_width=110)
        halt = gr.Button("Stop", interactive=False, elem_id="halt", min_width=90)
        again = gr.Button("Regenerate", interactive=False, elem_id="again", min_width=110)
        clear = gr.Button("Clear", elem_id="clear", min_width=90)
    said = gr.HTML(elem_id="said", elem_classes="hubq-shown")
    answers = gr.HTML(elem_id="answers", elem_classes="hubq-shown")
    section = divergence_section(service, streams, chat, halt)
    boxes = Boxes(chat, said, answers, prompt, ask, again)
    does = CompareEvents(service, streams, boxes, section)
    asked = [chat, chosen, prompt, settings.system, *settings.controls]
    inputs, outputs = [click, picture.sent, *asked], [*boxes, *section.outputs]
    gr.on([ask.click, prompt.submit], does.send, inputs, outputs, js=COUNT_AND_SHOW, **STREAM)
    again.click(does.redo, inputs, outputs, js=COUNT_AND_SHOW, **STREAM)
    halt.click(does.halt, None, None, queue=False, **QUIET)
    clear.click(does.clear, click, outputs, js=COUNT, concurrency_limit=None, **QUIET)
    _link_row(asked, said, section.aloud)
    return CompareTab(prompt, Step(does.run_link, inputs, outputs))


def _link_row(asked: list[Any], said: gr.HTML, aloud: gr.HTML) -> None:
    """Lay out what makes a link."""
    with gr.Row():
        link = gr.Button(
            "Link to this comparison", elem_id="link", min_width=260, scale=0, size="md"
        )
        address = gr.Textbox(
            label="Link", buttons=["copy"], interactive=False, elem_id="address", visible=False
        )
    link.click(_linked, asked, [address, said, aloud], **QUIET).then(
        None, address, address, js=WHOLE, **QUIET
    )


def _linked(
    chat: Chat, names: list[str], prompt: str, system: str, *values: float
) -> tuple[Any, str, str]:
    """Make the query of a link to what was asked last; before that, to what stands in the boxes."""
    try:
        if chat.prompts:
            query = to_query(_link(chat.names, chat.prompts[-1], chat.system, chat.settings))
        else:
            query = to_query(_link(names, prompt, system, read_settings(values)))
    except UserError as error:
        words = str(error)
        return gr.update(value="", visible=False), notice(words), announcement(words)
    missing = [EARLIER] * (len(chat.prompts) > 1) + [WITHOUT_PICTURE] * bool(chat.picture)
    words = " ".join(missing)
    return gr.update(value=query, visible=True), notice(words), announcement(words)


def _link(names: Sequence[str], prompt: str, system: str, settings: Settings) -> Comparison:
    return Comparison(tuple(names), prompt, system, settings.model_dump())


class Boxes(NamedTuple):
    """The components that the handlers change."""

    chat: gr.State
    said: gr.HTML
    answers: gr.HTML
    prompt: gr.Textbox
    ask: gr.Button
    again: gr.Button


class Asked(NamedTuple):
    """What stands in the boxes when a button is pressed."""

    picture: str | None  # as the browser sent it
    names: Sequence[str]
    prompt: str
    system: str
    values: tuple[float, ...]

    @classmethod
    def of(
        cls, picture: str | None, names: Sequence[str], prompt: str, system: str, *values: float
    ) -> "Asked":
        """Gather the inputs of a handler."""
        return cls(picture, names, prompt, system, values)


class NextTurn(NamedTuple):
    """What is asked of the models of a chat."""

    chat: Chat
    prompt: str
    settings: Settings
    picture: TakenPicture | None


class CompareEvents:
    """The handlers; each yields what becomes of which component."""

    def __init__(
        self,
        service: ComparisonService,
        streams: OpenStreams,
        boxes: Boxes,
        section: DivergenceSection,
    ) -> None:
        self.service, self.streams = service, streams
        self.boxes, self.section = boxes, section
        self.nothing: Shown = {boxes.said: gr.skip()}

    def send(
        self, request: gr.Request, click: int | None, picture: str | None, chat: Chat, *asked: Value
    ) -> Iterator[Shown]:
        """Ask all models; the box of the prompt is emptied once it is taken."""
        yield from self._compare(request, click, chat, Asked.of(picture, *asked))

    def redo(
        self, request: gr.Request, click: int | None, picture: str | None, chat: Chat, *asked: Value
    ) -> Iterator[Shown]:
        """Ask the last prompt again, as models, picture and settings are now."""
        prompt = chat.prompts[-1] if chat.prompts else ""
        again = Asked.of(picture, *asked)._replace(prompt=prompt)
        yield from self._compare(request, click, chat.without_last(), again)

    def run_link(self, request: gr.Request, linked: bool, *asked: Value) -> Iterator[Shown]:
        """Do a link's comparison again, if a whole one was in the address."""
        if linked:
            yield from self.send(request, *asked)
        else:  # a generator without values would empty its outputs
            yield self.nothing

    def halt(self, request: gr.Request) -> None:
        """Stop the answers and the reading; they end by themselves and keep what they have."""
        self.streams.stop(_tab(request))

    def clear(self, request: gr.Request, click: int | None) -> Iterator[Shown]:
        """Forget the chat; nothing that was asked for before shows itself afterwards."""
        cleared = {
            **dict.fromkeys((self.boxes.said, self.boxes.answers, self.boxes.prompt), ""),
            **self._settled(Chat()),
            self.section.aloud: announcement("Cleared"),
        }
        show = partial(_once, cleared)
        yield from self.streams.stream(_tab(request), int(click or 0), show, self.nothing)

    def _compare(
        self, request: gr.Request, click: int | None, chat: Chat, asked: Asked
    ) -> Iterator[Shown]:
        try:
            limits = self.service.generation.limits
            settings = checked(limits, asked.names, asked.prompt, read_settings(asked.values))
            picture = taken(asked.picture)
        except UserError as error:
            words = str(error)
            yield {self.boxes.said: notice(words), self.section.aloud: announcement(words)}
            return
        told = (asked.names, asked.system, picture.digest if picture else "")
        chat = chat if chat.goes_on(*told) else begin(*told)
        turn = NextTurn(chat, asked.prompt, settings, picture)
        show = partial(self._answers, turn)
        yield from self.streams.stream(_tab(request), int(click or 0), show, self.nothing)

    def _answers(self, turn: NextTurn, watch: Watch) -> Iterator[Shown]:
        boxes, chat, prompt = self.boxes, turn.chat, turn.prompt
        # The prompt's box is emptied once, as visitors may go on typing.
        first: Shown = {boxes.said: notice(about(turn.picture)), boxes.prompt: ""}
        for sides in answer_together(chat.names, self._starts(turn, watch), watch):
            shown = {boxes.answers: running(chat.lines, prompt, sides)}
            yield {
                **first,
                **shown,
                **self._busy(),
                self.section.aloud: progress_announcement(sides),
            }
            first = {}
        done = chat.with_turn(prompt, turn.settings, sides)
        yield {boxes.answers: conversation(done.lines), **self._settled(done)}

    def _starts(self, turn: NextTurn, watch: Watch) -> list[Start]:
        picture = turn.picture.base64 if turn.picture else None
        return self.service.starts(turn.chat, turn.prompt, turn.settings, watch.stop, picture)

    def _busy(self) -> Shown:
        """While answers come they can be stopped or cleared; what was read before is over."""
        able = {self.boxes.ask: False, self.section.halt: True, self.boxes.again: False}
        return {**_able(able), **self.section.withdrawn()}

    def _settled(self, chat: Chat) -> Shown:
        able = {
            self.boxes.ask: True,
            self.section.halt: False,
            self.boxes.again: bool(chat.prompts),
        }
        return {self.boxes.chat: chat, **_able(able), **self.section.offered(chat)}


def checked(limits: Limits, names: Sequence[str], prompt: str, settings: Settings) -> Settings:
    """Raise UserError for what can't be compared, before anything starts."""
    if not FEWEST <= len(names) <= MODELS:
        raise UserError(
            f"choose {FEWEST} to {MODELS} models to compare; {len(names) or 'none'} "
            f"{'is' if len(names) == 1 else 'are'} chosen"
        )
    if len(set(names)) < len(names):
        raise UserError("choose each model once: the same one would answer the same")
    message = Message(role="user", content=prompt)
    nobody = Model(folder=Path())
    limits.check(Request(model=nobody, title="", messages=(message,), settings=settings))
    return settings


def _tab(request: gr.Request) -> Tab:
    return Tab(request.session_hash or "", COMPARE)


def _once(shown: Shown, _: Watch) -> Iterator[Shown]:
    yield shown


def _able(able: dict[gr.Button, bool]) -> Shown:
    return {button: gr.update(interactive=can) for button, can in able.items()}
