"""The Space: released models side by side. Layout and handlers only; each tab in its own file.

`python app.py` serves it. What it shows is said by HUBQ_SPACE_ORG and HUBQ_SPACE_MODELS; on a
Space, by default, its own account's models. HUBQ_SPACE_VOTES names the repo that keeps votes.
"""

import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from page import answer_html, sampling_settings, token_html
from page.api_endpoints import api_endpoints
from page.compare_tab import FEWEST, compare_tab
from page.events import QUIET, STREAM, THREADS, WAITING, OpenStreams, Step, visitor_state
from page.guard import Form, Guard, own_names, unchecked
from page.numbers_tab import numbers_tab
from page.sampling_settings import MODELS, from_query
from page.vote_tab import vote_tab
from releases.catalogue import Catalogue, Sources
from serving.conversation import ComparisonService
from serving.generation import Generation, Limits, WorkerGeneration
from serving.machine import gpu_memory, machine_memory
from serving.model_files import ModelFiles
from votes.storage import Votes, open_votes

TITLE = "Compare quantized models"
# The fonts of the visitor's own machine: nothing is asked of other servers.
FONT = ("system-ui", "sans-serif")
THEME = gr.themes.Soft(primary_hue="blue", font=FONT, font_mono=("ui-monospace", "monospace"))
LOOKING = "Looking for the models ..."  # until they are found, which can take a while
NO_MODELS = "There are no models here that could be compared."
CSS = f"""
#closest {{padding: var(--block-padding)}}
footer {{font-size: var(--text-xs)}}
{answer_html.STYLE}{token_html.STYLE}"""
EVENTS = 1000  # that Gradio keeps for later; of streams there are never so many
SESSIONS = 1000  # visitors whose state is kept


def build(service: ComparisonService, votes: Votes) -> gr.Blocks:
    """Return the page."""
    page, streams = gr.Blocks(title=TITLE, analytics_enabled=False), OpenStreams()
    with page:
        gr.Markdown(f"# {TITLE}\nWhat does it cost to store a model in fewer bits?")
        chosen = gr.Dropdown(
            label="Models to compare",
            info=f"Choose {FEWEST} to {MODELS}.",
            multiselect=True,
            max_choices=MODELS,
            interactive=True,
            elem_id="models",
        )
        unchecked(chosen)
        settings = sampling_settings.sampling_controls(service.generation.limits.new_tokens)
        notes = gr.HTML(answer_html.notice(LOOKING), elem_id="notes", elem_classes="hubq-shown")
        with gr.Tabs():
            with gr.Tab("Compare", id="compare"):
                compare = compare_tab(service, streams, chosen, settings)
            with gr.Tab("Vote blind", id="vote"):
                board = vote_tab(service, streams, votes, chosen, settings)
            with gr.Tab("Numbers", id="numbers"):
                numbers = numbers_tab(service.catalogue, chosen)

        filled = [chosen, notes, compare.prompt, settings.system, *settings.controls]
        _on_load(page, service, filled, compare.run_link, (numbers, board))

        def left(request: gr.Request) -> None:
            """End what nobody waits for any more."""
            streams.leave(request.session_hash or "")

        page.unload(left)
        api_endpoints(service, streams)
    page.queue(max_size=EVENTS)
    return page


def _on_load(
    page: gr.Blocks,
    service: ComparisonService,
    filled: list[Any],
    run_link: Step,
    tabs: Iterable[Step],
) -> None:
    """Fill an opened page: what its link says, the tabs, then the link's comparison."""
    linked = visitor_state(False)

    def opened(request: gr.Request) -> list[Any]:
        most = service.generation.limits.new_tokens
        return _opened(service.catalogue, most, str(request.query_params))

    at_once = {**QUIET, "concurrency_limit": None}  # nobody waits for another's page to open
    loaded = page.load(opened, None, [*filled, linked], **at_once)
    for tab in tabs:
        loaded.then(*tab, **at_once)
    loaded.then(run_link.handle, [linked, *run_link.inputs], run_link.outputs, **STREAM)


def _opened(catalogue: Catalogue, most_tokens: int, query: str) -> list[Any]:
    """Take a link as far as it holds here; say what is wrong with it."""
    comparison, problems = from_query(query)
    listing = catalogue.listing()
    names = [each.name for each in listing.models]
    nothing = () if names else (NO_MODELS, *(each.sentence for each in listing.problems))
    gone = [f"{name} is not here (any more)." for name in comparison.models if name not in names]
    there = [name for name in comparison.models if name in names]
    values, changed = sampling_settings.values_of(comparison.settings, most_tokens)
    wrong = (*problems, *gone, *changed)
    whole = bool(comparison.prompt) and len(there) >= FEWEST and not wrong
    return [
        gr.Dropdown(listing.choices, value=there),
        "".join(map(answer_html.notice, (*nothing, *wrong))),
        comparison.prompt,
        comparison.system,
        *values,
        whole,
    ]


def best_generation(limits: Limits, client: Client) -> Generation[Any]:
    """Return what fits where this runs; on ZeroGPU it must be made while the app is imported."""
    files = ModelFiles(client)
    if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):  # as `spaces` reads it
        from serving.generation import InProcessGeneration

        return InProcessGeneration(limits, machine_memory(), files)
    return WorkerGeneration(limits, gpu_memory() or machine_memory(), files)


def comparison_service() -> ComparisonService:
    """Return what answers are made with, of the models that the environment names."""
    client = Client(retries=RetryPolicy(tries=1))  # nobody waits long for a silent Hub
    limits = Limits(waiting=WAITING)
    return ComparisonService(
        Catalogue(Sources.of(os.environ), client), best_generation(limits, client)
    )


def main() -> None:
    """Serve the page until Ctrl-C, or SIGTERM, by which a Space ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    service = comparison_service()
    votes = open_votes(os.environ, service.catalogue.client)
    page = build(service, votes)
    front = Middleware(Guard, form=Form(page), hosts=own_names(os.environ))
    try:
        _, address, _ = page.launch(
            theme=THEME,
            css=CSS,
            quiet=True,
            prevent_thread_lock=True,
            max_threads=THREADS,
            state_session_capacity=SESSIONS,
            app_kwargs={"middleware": [front]},
        )
        print(f"the Space is at {address}", flush=True)
        page.block_thread()
    finally:
        service.generation.close()


if __name__ == "__main__":
    main()
