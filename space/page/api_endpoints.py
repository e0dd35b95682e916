"""What programs can ask of the Space with gradio_client: `table` and `compare`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

import gradio as gr
from gradio.events import api

from hubq.errors import UserError
from page.compare_tab import checked
from page.events import API, PROGRAMS, OpenStreams, Tab
from page.sampling_settings import NAMES, read_settings
from releases.comparison import table
from serving.conversation import ComparisonService, begin
from serving.messages import Finished
from serving.streams import Side, answer_together

Rows = list[dict[str, Any]]


def api_endpoints(service: ComparisonService, streams: OpenStreams) -> None:
    """Open the endpoints."""
    api(_table(service), api_name="table")
    api(
        _compare(service, streams),
        api_name="compare",
        concurrency_limit=2 * PROGRAMS,  # what is too much is refused, and never waits
        concurrency_id="programs",
    )


def _table(service: ComparisonService) -> Callable[[], Rows]:
    def rows() -> Rows:
        """Return all models, one a row; what was not measured is null."""
        made = table(service.catalogue.listing().models)
        return [dict(zip(made.headers, row, strict=True)) for row in made.rows]

    return rows


def _compare(service: ComparisonService, streams: OpenStreams) -> Callable[..., Iterator[Rows]]:
    room = BoundedSemaphore(PROGRAMS)

    def compare(  # noqa: PLR0913 - each is an argument of the endpoint
        models: list[str],
        prompt: str,
        system: str = "",
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> Iterator[Rows]:
        """Let two to four models answer a prompt; the last of what comes has the whole answers."""
        values = (max_new_tokens, temperature, top_p, top_k, repetition_penalty, seed)
        assert len(values) == len(NAMES)
        tab = Tab((request and request.session_hash) or "", API)
        with _refusing(room):
            _require_texts(models, prompt, system)
            settings = checked(service.generation.limits, models, prompt, read_settings(values))
            chat = begin(models, system)
            with streams.watch(tab) as watch:
                starts = service.starts(chat, prompt, settings, watch.stop)
                for sides in answer_together(models, starts, watch):
                    yield [_row(each) for each in sides]

    return compare


def _require_texts(models: object, prompt: object, system: object) -> None:
    """Raise UserError for what isn't of the types that the endpoint has."""
    named = isinstance(models, list) and all(isinstance(each, str) for each in models)
    if not (named and isinstance(prompt, str) and isinstance(system, str)):
        raise UserError("models must be a list of names, and prompt and system must be strings")


@contextmanager
def _refusing(room: BoundedSemaphore) -> Iterator[None]:
    """Take a place as long as this lasts; what can't be is refused in words."""
    if not room.acquire(blocking=False):
        raise gr.Error(
            f"{PROGRAMS} comparisons by programs are running, which is the "
            "limit. Try again in a minute",
            print_exception=False,
        )
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
    finally:
        room.release()


def _row(side: Side) -> dict[str, Any]:
    """Return how far an answer is; what is not known yet is null."""
    last = side.events[-1] if side.events else None
    numbers = side.statistics
    return {
        "model": side.title,
        "text": side.text,
        "finished": last.reason if isinstance(last, Finished) else None,
        "error": side.note if side.failed else None,
        "place_in_queue": side.place,
        "tokens": numbers.tokens if numbers else None,
        "first_token_seconds": numbers.first_token if numbers else None,
        "tokens_per_second": numbers.rate if numbers else None,
        "memory_bytes": numbers.memory if numbers else None,
    }
