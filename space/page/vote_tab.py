"""The tab for blind votes: two answers without names, a vote, and who wins how often."""

from functools import partial

import gradio as gr
from serving.conversation import Kitchen
from votes.polling import Votes
from votes.votes import Choice

from page.compare_tab import EXAMPLES
from page.events import COUNT, QUIET, STREAM, Step, aloud, click_number, kept
from page.sampling_settings import SettingsBox
from page.stream_cancellation import Stops
from page.vote_events import Boxes, Voting

ABOUT = (
    "Two models answer, and you don't see which is which: of the models chosen above, or of all "
    "where fewer than two are chosen. Vote, then the names appear."
)
CONSENT = "Keep my prompt with the vote (otherwise only the choice, models and settings are kept)"
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
    ballot, turns, click = kept(""), kept(()), click_number()
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
    boxes = Boxes(ballot, turns, said, aloud(), answers, board, ask, halt, buttons)
    does = Voting(kitchen, stops, votes, boxes)
    inputs = [click, chosen, prompt, settings.system, *settings.controls]
    gr.on([ask.click, prompt.submit], does.send, inputs, boxes.outputs, js=COUNT, **STREAM)
    halt.click(does.halt, None, None, queue=False, **QUIET)
    for choice, button in zip(BUTTONS, buttons, strict=True):
        cast = partial(does.cast, choice)
        given = [ballot, turns, consent]
        button.click(cast, given, boxes.outputs, trigger_mode="once", **QUIET)
    return Step(does.show, [], [board])
