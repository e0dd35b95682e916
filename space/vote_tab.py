"""The tab for blind votes: two answers without names, a vote, and who wins how often."""

from collections.abc import Iterator, Sequence
from functools import partial
from random import Random, SystemRandom
from typing import Any

import gradio as gr
from ballots import Ballot, Contestant
from chat import Kitchen
from compare_tab import EXAMPLES, checked, halting
from exchange import Message
from leaderboard import leaderboard
from models import Listing, Problem, Released
from polling import Votes
from reaching import reach
from settings_box import SettingsBox, read
from showing import grid, notice, panel, side_of, standings
from sides import Side, together
from step import QUIET, STREAM, Step
from stops import Stops
from votes import Choice, Vote

from hubq.errors import UserError

ABOUT = (
    "Two models answer, and you don't see which is which: of the models chosen above, or of all "
    "where fewer than two are chosen. Vote, then the names appear."
)
CONSENT = "Keep my prompt with the vote (otherwise only the choice, models and settings are kept)"
NO_CONTEST = (
    "One of the two gave no answer, so there is nothing to vote on. Begin a new comparison."
)
TWO = 2
TITLES = ("The left answer", "The right answer")
BUTTONS: dict[Choice, str] = {
    "left": "Left is better",
    "right": "Right is better",
    "tie": "Equally good",
    "both bad": "Both are bad",
}


def vote_tab(
    kitchen: Kitchen, stops: Stops, votes: Votes, chosen: gr.Dropdown, settings: SettingsBox
) -> Step:
    """Lay the tab out and return what fills the leaderboard."""
    ballot = gr.State("")  # the id of the comparison, which says nothing of its models
    sides = gr.State(())
    gr.Markdown(ABOUT)
    prompt = gr.Textbox(label="Prompt of a blind comparison", lines=2, elem_id="blind-prompt")
    gr.Examples([[each] for each in EXAMPLES], prompt, api_visibility="private")
    with gr.Row():
        ask = gr.Button("Let two models answer", variant="primary", elem_id="blind-ask")
        halt = gr.Button("Stop", interactive=False, min_width=90)
    said = gr.HTML(elem_id="blind-said", elem_classes="hubq-shown")
    answers = gr.HTML(elem_id="blind-answers", elem_classes="hubq-shown")
    with gr.Row(elem_id="choices"):
        buttons = [
            gr.Button(text, interactive=False, min_width=130, elem_id=f"vote-{text.split()[0]}")
            for text in BUTTONS.values()
        ]
    consent = gr.Checkbox(label=CONSENT, value=False, elem_id="consent")
    gr.Markdown("### Leaderboard")
    board = gr.HTML(elem_id="leaderboard", elem_classes="hubq-shown")

    def send(
        request: gr.Request, names: list[str], prompt: str, system: str, *values: float
    ) -> Iterator[tuple[Any, ...]]:
        """Draw two models and let them answer."""
        try:
            settings = read(values)
            pair = drawn(kitchen.catalogue.listing(), names)
            checked(kitchen.generation.limits, [each.name for each in pair], prompt, settings)
            one, other = (_contestant(kitchen, each.name) for each in pair)
            opened = votes.ballots.draw(one, other, settings, prompt)
        except UserError as error:
            yield _refused(error)
            return
        yield from stream(opened, _messages(system, prompt), request)

    def stream(
        opened: Ballot, messages: tuple[Message, ...], request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        with stops.watch(request.session_hash) as watch:
            starts = [
                partial(kitchen.ask, each.model, title, messages, opened.settings, watch.stop)
                for each, title in zip((opened.left, opened.right), TITLES, strict=True)
            ]
            for coming in together(TITLES, starts, watch):
                yield "", (), "", _blind(coming, opened.prompt), *_buttons(busy=True, ready=False)
        shown = _blind(coming, opened.prompt)
        if any(side.failed or not side.text for side in coming):
            votes.ballots.close(opened.id)
            yield "", (), notice(NO_CONTEST), shown, *_buttons(busy=False, ready=False)
        else:
            yield opened.id, tuple(coming), "", shown, *_buttons(busy=False, ready=True)

    def cast(choice: Choice, id: str, sides: Sequence[Side], consent: bool) -> tuple[Any, ...]:
        """Keep a vote and lift the veil."""
        try:
            opened = votes.ballots.find(id)
            votes.book.add(Vote.on(opened, choice, with_prompt=consent))
        except UserError as error:
            return notice(str(error)), gr.skip(), gr.skip(), *_buttons(busy=False, ready=False)
        votes.ballots.close(id)
        thanks = f"Your vote is counted. Left was {opened.left.name}, right {opened.right.name}."
        named = (opened.left.name, opened.right.name)
        return (
            notice(thanks),
            _named(named, sides, opened.prompt),
            show(),
            *_buttons(busy=False, ready=False),
        )

    def show() -> str:
        return notice(votes.note) + standings(leaderboard(votes.book.votes()))

    inputs = [chosen, prompt, settings.system, *settings.controls]
    outputs = [ballot, sides, said, answers, ask, halt, *buttons]
    gr.on([ask.click, prompt.submit], send, inputs, outputs, **STREAM)
    halt.click(halting(stops), None, None, queue=False, **QUIET)
    for choice, button in zip(BUTTONS, buttons, strict=True):
        button.click(
            partial(cast, choice),
            [ballot, sides, consent],
            [said, answers, board, ask, halt, *buttons],
            trigger_mode="once",
            **QUIET,
        )
    return Step(show, [], [board])


def drawn(listing: Listing, names: Sequence[str], random: Random | None = None) -> list[Released]:
    """Draw two of the chosen models or, of fewer, two of one base's family that can answer."""
    able = [each for each in listing.models if each.weights is not None]
    chosen = [each for each in able if each.name in names]
    families = [[each for each in able if each.base == base] for base in listing.bases]
    groups = [chosen, *families] if len(chosen) >= TWO else families
    group = next((each for each in groups if len(each) >= TWO), None)
    if group is None:
        raise UserError(
            "there are no two models here that could answer; of reports alone, Numbers tells"
        )
    return (random or SystemRandom()).sample(group, TWO)


def _contestant(kitchen: Kitchen, name: str) -> Contestant:
    """Look a model up before the sides are drawn: what is said of trouble may then name it."""
    found = kitchen.catalogue.pick(name)
    if isinstance(found, Problem):
        raise UserError(found.sentence)
    return Contestant(model=reach(found, kitchen.catalogue.client), name=name)


def _messages(system: str, prompt: str) -> tuple[Message, ...]:
    before = [Message(role="system", content=system)] if system.strip() else []
    return (*before, Message(role="user", content=prompt))


def _blind(sides: Sequence[Side], prompt: str) -> str:
    """Show the answers without names, and without the costs that would betray them."""
    return grid(panel(each.title, [side_of(each, prompt, measured=False)]) for each in sides)


def _named(names: Sequence[str], sides: Sequence[Side], prompt: str) -> str:
    pairs = zip(names, sides, strict=True)
    return grid(panel(name, [side_of(side, prompt)]) for name, side in pairs)


def _refused(error: UserError) -> tuple[Any, ...]:
    return gr.skip(), gr.skip(), notice(str(error)), *[gr.skip()] * (3 + len(BUTTONS))


def _buttons(*, busy: bool, ready: bool) -> list[dict[str, Any]]:
    """Return those to ask, to stop and to vote."""
    return [
        gr.update(interactive=not busy),
        gr.update(interactive=busy),
        *[gr.update(interactive=ready) for _ in BUTTONS],
    ]
