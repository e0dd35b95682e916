"""What happens when a button is pressed: the words that all tabs have for it, and what counts.

Clicks are numbered in the browser, since what they start may come in another order. A comparison
outdates those of its tab that were asked for before it, and so does clearing: of an outdated one
nothing is shown any more, whether it has begun or is still to come. Gradio's own `cancels` closes a
generator at its next yield: what was said by then can't be kept, and the buttons not be given back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import gradio as gr

from serving.streams import Watch

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
# No endpoint for programs, and no veil over what is being changed.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
STREAM: dict[str, Any] = {
    **QUIET,
    "concurrency_limit": STREAMS,
    "concurrency_id": "answers",
    "trigger_mode": "once",
}
COMPARE, BLIND, API = "compare", "blind", "programs"  # what a visitor has open
ENDING = 5.0  # seconds at most that the next waits for what it outdates
SETTLING = 0.25  # seconds after an end in which Gradio has sent the last once more
Sent = TypeVar("Sent")


class Step(NamedTuple):
    """A handler with its components."""

    handle: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]


def visitor_state(value: object) -> gr.State:
    """Return what is kept for each visitor, for some hours."""
    return gr.State(value, time_to_live=KEPT)


def live_region() -> gr.HTML:
    """Return what only screen readers meet: they say what becomes of it."""
    live = "element.setAttribute('aria-live', 'polite')"
    return gr.HTML("<p></p>", js_on_load=live, elem_classes="hubq-aloud")


def click_number() -> gr.Number:
    """Return the input that COUNT fills; before any click it holds 0."""
    return gr.Number(0, precision=0, visible=False)


class Tab(NamedTuple):
    """A tab as one visitor has it open."""

    session: str
    name: str


class Stream(NamedTuple):
    """What is under way: since which click, and what ends it."""

    click: int
    watch: Watch


class OpenStreams:
    """All streams by tab, and the click that each tab's comparison is of."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._clicks: dict[Tab, int] = {}
        self._streams: dict[Tab, list[Stream]] = {}
        self._ends: dict[Tab, float] = {}  # when the last that a browser shows ended

    def stream(
        self,
        tab: Tab,
        click: int,
        show: Callable[[Watch], Iterator[Sent]],
        nothing: Sent,
        *,
        replaces: bool = True,
    ) -> Iterator[Sent]:
        """Yield what `show` does as long as it counts; of an outdated one the last is `nothing`.

        Gradio sends the last once more after the end. And it sends what changed since the one
        before, which browsers put into place even before they show it: so each of them has to
        say anew what becomes of a button.
        """
        with self.watch(tab, click, replaces=replaces) as watch:
            for shown in show(watch) if not watch.outdated.is_set() else ():
                if watch.outdated.is_set():
                    break
                yield shown
            if watch.outdated.is_set():
                yield nothing

    @contextmanager
    def watch(self, tab: Tab, click: int = 0, *, replaces: bool = False) -> Iterator[Watch]:
        """Say what ends a stream; one that `replaces` others begins when these have ended."""
        mine = Stream(click, Watch())
        with self._changed:
            self._streams.setdefault(tab, []).append(mine)
            if click < self._clicks.get(tab, 0):
                _outdate(mine)
            elif replaces:
                self._replace(tab, mine)
        try:
            yield mine.watch
        finally:
            mine.watch.stop.set()
            with self._changed:
                self._forget(tab, mine)

    def stop(self, tab: Tab) -> None:
        """Stop all that is under way in a tab; it ends by itself and keeps what it has."""
        with self._changed:
            for each in self._streams.get(tab, ()):
                each.watch.stop.set()

    def leave(self, session: str) -> None:
        """Stop and forget all of a visitor who has closed the page."""
        with self._changed:
            for tab in [each for each in self._streams if each.session == session]:
                for each in self._streams[tab]:
                    _outdate(each)
            for tab in [each for each in self._clicks if each.session == session]:
                del self._clicks[tab]

    def _replace(self, tab: Tab, new: Stream) -> None:
        """Outdate what came before and wait for its end."""
        self._clicks[tab] = new.click
        old = [each for each in self._streams[tab] if each is not new and each.click <= new.click]
        for each in old:
            _outdate(each)
        self._changed.wait_for(
            lambda: not any(each in self._streams[tab] for each in old), timeout=ENDING
        )
        while (rest := self._ends.get(tab, 0.0) + SETTLING - monotonic()) > 0:
            self._changed.wait(rest)

    def _forget(self, tab: Tab, stream: Stream) -> None:
        self._streams[tab] = [each for each in self._streams[tab] if each is not stream]
        if not self._streams[tab]:
            del self._streams[tab]
        now = monotonic()
        self._ends = {each: end for each, end in self._ends.items() if end > now - SETTLING}
        if tab.name != API:
            self._ends[tab] = now
        self._changed.notify_all()


def _outdate(stream: Stream) -> None:
    stream.watch.stop.set()
    stream.watch.outdated.set()
