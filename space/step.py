"""What a page does when something happened, and how: the words for it that all tabs share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

# Visitors whose answers stream or wait for their turn; further ones Gradio lets wait, unseen.
AT_ONCE = 24
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
    "concurrency_limit": AT_ONCE,
    "concurrency_id": "answers",
    "trigger_mode": "once",
}


def click_number() -> gr.Number:
    """Return the input that COUNT fills; before any click it holds 0."""
    return gr.Number(0, precision=0, visible=False)
