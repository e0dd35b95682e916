"""The tab for blind votes: two answers without names, a vote, and who wins how often.

First the layout, then what the buttons do: draw, answer, stop, vote.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random, SystemRandom
from threading import Event as Flag
from typing import Any, NamedTuple

import gradio as gr

from hubq.errors import UserError
from page.answer_html import (
    announcement,
    costing,
    grid,
    notice,
    panel,
    progress_announcement,
    side_of,
    standings,
    turn_of,
)
from page.compare_tab import EXAMPLES, checked
from page.events import (
    BLIND,
    COUNT,
    QUIET,
    STREAM,
    OpenStreams,
    Shown,
    Step,
    Tab,
    Value,
    click_number,
    live_region,
    visitor_state,
)
from page.sampling_settings import SamplingControls, read_settings
from releases.models import Listing, Problem, Released
from serving.conversation import ComparisonService, Turn, reach, turn
from serving.messages import Message, Model, Settings
from serving.streams import RequestOrEvent, Side, Watch, answer_together
from votes.ballots import Ballot, Choice, Vote, leaderboard
from votes.storage import Votes

ABOUT = (
    "Two models answer, and you don't see which is which. They are two of the models chosen "
    "above, or of all models if fewer than two are chosen. Vote, then the names appear."
)
CONSENT = "Keep my prompt with the vote (otherwise only the choice, models and settings are kept)"
BUTTONS: dict[Choice, str] = {
    "left": "Left is better",
    "right": "Right is better",
    "tie": "Equally good",
    "both bad": "Both are bad",
}
NO_CONTEST = (
    "One of the two did not finish its answer, so there is nothing to vote on. "
    "Begin a new comparison."
)
TWO = 2
TITLES = ("The left answer", "The right answer")


def vote_tab(
    service: ComparisonService,
    streams: OpenStreams,
    votes: Votes,
    chosen: gr.Dropdown,
    settings: SamplingControls,
) -> Step:
    """Lay the tab out and return what fills the leaderboard."""
    ballot, turns, click = visitor_state(""), visitor_state(()), click_number()
    gr.Markdown(ABOUT)
    prompt = gr.Textbox(label="Prompt of a blind comparison", lines=2, elem_id="blind-prompt")
    gr.Examples([[each] for each in EXAMPLES], prompt, api_visibility="private")
    with gr.Row():
        ask = gr.Button("Let two models answer", variant="primary", elem_id="blind-ask")
        halt = gr.Button("Stop", interactive=False, elem_id="blind-halt", min_width=90)
    said = gr.HTML(elem_id="blind-said", elem_classes="hubq-shown")
    answers = gr.HTML(elem_id="blind-answers", elem_classes="hubq-shown")
    with gr.Row(elem_id="choices"):
        buttons = tuple(
            gr.Button(text, interactive=False, min_width=130, elem_id=f"vote-{text.split()[0]}")
            for text in BUTTONS.values()
        )
    consent = gr.Checkbox(label=CONSENT, value=False, elem_id="consent")
    gr.Markdown("## Leaderboard")
    board = gr.HTML(elem_id="leaderboard", elem_classes="hubq-shown")
    boxes = Boxes(ballot, turns, said, live_region(), answers, board, ask, halt, buttons)
    does = VoteEvents(service, streams, votes, boxes)
    inputs = [click, chosen, prompt, settings.system, *settings.controls]
    gr.on([ask.click, prompt.submit], does.send, inputs, boxes.outputs, js=COUNT, **STREAM)
    halt.click(does.halt, None, None, queue=False, **QUIET)
    for choice, button in zip(BUTTONS, buttons, strict=True):
        cast = partial(does.cast, choice)
        given = [ballot, turns, consent]
        button.click(cast, given, boxes.outputs, trigger_mode="once", **QUIET)
    return Step(does.show, [], [board])


class Boxes(NamedTuple):
    """The components that the handlers change."""

    ballot: gr.State  # the id of the comparison, which says nothing of its models
    turns: gr.State  # what was answered, as it is shown after the vote
    said: gr.HTML
    aloud: gr.HTML
    answers: gr.HTML
    board: gr.HTML
    ask: gr.Button
    halt: gr.Button
    choices: tuple[gr.Button, ...]

    @property
    def outputs(self) -> list[Any]:
        """List the components."""
        *single, choices = self
        return [*single, *choices]


class VoteEvents:
    """The handlers; each gives what becomes of which component."""

    def __init__(
        self, service: ComparisonService, streams: OpenStreams, votes: Votes, boxes: Boxes
    ) -> None:
        self.service, self.streams, self.votes, self.boxes = service, streams, votes, boxes

    def send(
        self, request: gr.Request, click: int | None, names: list[str], *asked: Value
    ) -> Iterator[Shown]:
        """Draw two models and let them answer."""
        prompt, system, *values = asked
        try:
            settings = read_settings(tuple(values))
            opened, models = self._draw(names, prompt, settings)
        except UserError as error:
            yield self._say(str(error))
            return
        starts = [
            partial(self.service.ask, model, title, _messages(system, prompt), settings)
            for model, title in zip(models, TITLES, strict=True)
        ]
        show = partial(self._answers, opened, starts)
        nothing = {self.boxes.said: gr.skip()}
        yield from self.streams.stream(_tab(request), int(click or 0), show, nothing)

    def halt(self, request: gr.Request) -> None:
        """Stop the answers."""
        self.streams.stop(_tab(request))

    def cast(self, choice: Choice, id: str, turns: Sequence[Turn], consent: bool) -> Shown:
        """Keep a vote and lift the veil."""
        idle = self._able(busy=False, ready=False)
        try:
            opened = self.votes.ballots.find(id)
            self.votes.book.add(Vote.on(opened, choice, with_prompt=consent))
        except UserError as error:
            return {**self._say(str(error)), **idle}
        self.votes.ballots.close(id)
        names = (opened.left, opened.right)
        thanks = f"Your vote is counted. Left was {names[0]}, right {names[1]}."
        pairs = zip(names, turns, strict=True)
        return {
            **self._say(thanks),
            self.boxes.answers: costing(panel(name, [turn_of(each)]) for name, each in pairs),
            self.boxes.board: self.show(),
            **idle,
        }

    def show(self) -> str:
        """Return the leaderboard, or why there is none now."""
        try:
            votes = self.votes.book.votes()
        except UserError as error:
            return notice(str(error))
        return notice(self.votes.note) + standings(leaderboard(votes))

    def _draw(
        self, names: Sequence[str], prompt: str, settings: Settings
    ) -> tuple[Ballot, tuple[Model, Model]]:
        """Draw two models and their sides; return the left model and the right one too."""
        pair = drawn(self.service.catalogue.listing(), names)
        limits = self.service.generation.limits
        checked(limits, [each.name for each in pair], prompt, settings)
        models = {each.name: _reached(self.service, each.name) for each in pair}
        one, other = models
        opened = self.votes.ballots.draw(one, other, settings.model_dump(), prompt)
        return opened, (models[opened.left], models[opened.right])

    def _answers(
        self,
        opened: Ballot,
        asked: Sequence[Callable[[Flag], Iterator[RequestOrEvent]]],
        watch: Watch,
    ) -> Iterator[Shown]:
        boxes = self.boxes
        starts = [partial(each, watch.stop) for each in asked]
        first: Shown = {boxes.said: "", boxes.ballot: "", boxes.turns: ()}
        for sides in answer_together(TITLES, starts, watch):
            shown = {
                boxes.answers: _blind(sides, opened.prompt),
                boxes.aloud: progress_announcement(sides),
            }
            yield {**first, **shown, **self._able(busy=True, ready=False)}
            first = {}
        if all(side.whole for side in sides):
            turns = tuple(turn(opened.prompt, side) for side in sides)
            kept = {boxes.ballot: opened.id, boxes.turns: turns}
            yield {**kept, **self._able(busy=False, ready=True)}
        else:
            self.votes.ballots.close(opened.id)
            yield {**self._say(NO_CONTEST), **self._able(busy=False, ready=False)}

    def _say(self, words: str) -> Shown:
        return {self.boxes.said: notice(words), self.boxes.aloud: announcement(words)}

    def _able(self, *, busy: bool, ready: bool) -> Shown:
        """Say which buttons can be pressed."""
        boxes = self.boxes
        able = {boxes.ask: not busy, boxes.halt: busy, **dict.fromkeys(boxes.choices, ready)}
        return {button: gr.update(interactive=can) for button, can in able.items()}


def drawn(listing: Listing, names: Sequence[str], random: Random | None = None) -> list[Released]:
    """Draw two of the chosen models or, of fewer, two of one base's family that can answer."""
    able = [each for each in listing.models if each.weights is not None]
    chosen = [each for each in able if each.name in names]
    families = [[each for each in able if each.base == base] for base in listing.bases]
    groups = [chosen, *families] if len(chosen) >= TWO else families
    group = next((each for each in groups if len(each) >= TWO), None)
    if group is None:
        raise UserError(
            "fewer than two models here can answer; the tab Numbers shows what was "
            "measured of the others"
        )
    return (random or SystemRandom()).sample(group, TWO)


def _reached(service: ComparisonService, name: str) -> Model:
    """Look a model up before the sides are drawn: what is said of trouble may then name it."""
    found = service.catalogue.pick(name)
    if isinstance(found, Problem):
        raise UserError(found.sentence)
    return reach(found, service.catalogue.client)


def _messages(system: str, prompt: str) -> tuple[Message, ...]:
    before = [Message(role="system", content=system)] if system.strip() else []
    return (*before, Message(role="user", content=prompt))


def _blind(sides: Sequence[Side], prompt: str) -> str:
    """Show the answers without names, and without the costs that would betray them."""
    return grid(panel(each.title, [side_of(each, prompt, measured=False)]) for each in sides)


def _tab(request: gr.Request) -> Tab:
    return Tab(request.session_hash or "", BLIND)
