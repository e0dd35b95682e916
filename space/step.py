"""What a page does when something happened, and how: the words for it that all tabs share."""

from collections.abc import Callable
from typing import Any, NamedTuple

# Visitors whose answers stream or wait for their turn; further ones Gradio lets wait, unseen.
AT_ONCE = 24


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
