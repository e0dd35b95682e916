"""What a page does when something happened, and how: the words for it that all tabs share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

# Answers that may wait for their turn. Who comes then is told so; but Gradio would let streams
# beyond its own limit wait unseen, so that has to be larger.
WAITING = 96
STREAMS = 128
THREADS = STREAMS + 64  # each stream waits in one, and everything else needs some too
PROGRAMS = 10  # comparisons for programs at once, so that one script leaves room for visitors
KEPT = 4 * 3600.0  # seconds that a visitor's state is kept after it changed
# Numbers the clicks of a page; the first input of what they start is filled with the number.
COUNT = "(_, ...inputs) => [window.clicks = (window.clicks ?? 0) + 1, ...inputs]"

Value = Any  # of a component, as Gradio hands it over
Shown = dict[Any, Any]  # what becomes of each component; the others stay as they are


class Step(NamedTuple):
    """A handler with its components."""

    handle: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]


# No endpoint for programs, and no veil over what is being changed.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
STREAM: dict[str, Any] = {
    **QUIET,
    "concurrency_limit": STREAMS,
    "concurrency_id": "answers",
    "trigger_mode": "once",
}


def kept(value: object) -> gr.State:
    """Return what is kept for each visitor, for some hours."""
    return gr.State(value, time_to_live=KEPT)


def aloud() -> gr.HTML:
    """Return what only screen readers meet: they say what becomes of it."""
    live = "element.setAttribute('aria-live', 'polite')"
    return gr.HTML("<p></p>", js_on_load=live, elem_classes="hubq-aloud")


def click_number() -> gr.Number:
    """Return the input that COUNT fills; before any click it holds 0."""
    return gr.Number(0, precision=0, visible=False)
