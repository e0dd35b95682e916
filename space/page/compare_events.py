"""What the buttons of the comparison do: ask, ask again, stop, clear."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import gradio as gr
from serving.conversation import Chat, Kitchen, begin
from serving.generation import Limits
from serving.messages import Message, Model, Request, Settings
from serving.sides import together
from serving.streams import Watch

from hubq.errors import UserError
from page.answer_html import conversation, notice, running, said_aloud, speak
from page.deep_links import MODELS
from page.divergence_section import Parting
from page.events import Shown, Value
from page.sampling_settings import read
from page.stream_cancellation import COMPARE, Stops, Tab

FEWEST = 2


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

    names: Sequence[str]
    prompt: str
    system: str
    values: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str], prompt: str, system: str, *values: float) -> "Asked":
        """Gather the inputs of a handler."""
        return cls(names, prompt, system, values)


class Comparing:
    """The handlers; each yields what becomes of which component."""

    def __init__(self, kitchen: Kitchen, stops: Stops, boxes: Boxes, parting: Parting) -> None:
        self.kitchen, self.stops = kitchen, stops
        self.boxes, self.parting = boxes, parting
        self.nothing: Shown = {boxes.said: gr.skip()}

    def send(
        self, request: gr.Request, click: int | None, chat: Chat, *asked: Value
    ) -> Iterator[Shown]:
        """Ask all models; the box of the prompt is emptied once it is taken."""
        yield from self._compare(request, click, chat, Asked.of(*asked))

    def redo(
        self, request: gr.Request, click: int | None, chat: Chat, *asked: Value
    ) -> Iterator[Shown]:
        """Ask the last prompt again, as models and settings are now."""
        prompt = chat.prompts[-1] if chat.prompts else ""
        again = Asked.of(*asked)._replace(prompt=prompt)
        yield from self._compare(request, click, chat.without_last(), again)

    def run_link(
        self, request: gr.Request, linked: bool, click: int | None, chat: Chat, *asked: Value
    ) -> Iterator[Shown]:
        """Do a link's comparison again, if a whole one was in the address."""
        if linked:
            yield from self.send(request, click, chat, *asked)
        else:  # a generator without values would empty its outputs
            yield self.nothing

    def halt(self, request: gr.Request) -> None:
        """Stop the answers and the reading; they end by themselves and keep what they have."""
        self.stops.stop(_tab(request))

    def clear(self, request: gr.Request, click: int | None) -> Iterator[Shown]:
        """Forget the chat; nothing that was asked for before shows itself afterwards."""
        cleared = {
            **dict.fromkeys((self.boxes.said, self.boxes.answers, self.boxes.prompt), ""),
            **self._settled(Chat()),
            self.parting.aloud: said_aloud("Cleared"),
        }
        show = partial(_once, cleared)
        yield from self.stops.stream(_tab(request), int(click or 0), show, self.nothing)

    def _compare(
        self, request: gr.Request, click: int | None, chat: Chat, asked: Asked
    ) -> Iterator[Shown]:
        try:
            limits = self.kitchen.generation.limits
            settings = checked(limits, asked.names, asked.prompt, read(asked.values))
        except UserError as error:
            words = str(error)
            yield {self.boxes.said: notice(words), self.parting.aloud: said_aloud(words)}
            return
        goes_on = chat.goes_on(asked.names, asked.system)
        chat = chat if goes_on else begin(asked.names, asked.system)
        show = partial(self._answers, chat, asked.prompt, settings)
        yield from self.stops.stream(_tab(request), int(click or 0), show, self.nothing)

    def _answers(
        self, chat: Chat, prompt: str, settings: Settings, watch: Watch
    ) -> Iterator[Shown]:
        boxes = self.boxes
        # The prompt's box is emptied once, as visitors may go on typing.
        first: Shown = {boxes.said: "", boxes.prompt: ""}
        for sides in together(
            chat.names, self.kitchen.starts(chat, prompt, settings, watch.stop), watch
        ):
            shown = {boxes.answers: running(chat.lines, prompt, sides)}
            yield {**first, **shown, **self._busy(), self.parting.aloud: speak(sides)}
            first = {}
        done = chat.with_turn(prompt, settings, sides)
        yield {boxes.answers: conversation(done.lines), **self._settled(done)}

    def _busy(self) -> Shown:
        """While answers come they can be stopped or cleared; what was read before is over."""
        able = {self.boxes.ask: False, self.parting.halt: True, self.boxes.again: False}
        return {**_able(able), **self.parting.withdrawn()}

    def _settled(self, chat: Chat) -> Shown:
        able = {
            self.boxes.ask: True,
            self.parting.halt: False,
            self.boxes.again: bool(chat.prompts),
        }
        return {self.boxes.chat: chat, **_able(able), **self.parting.offered(chat)}


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
