"""The tab where models answer the same prompt side by side, and where their answers part."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from chat import Chat, Kitchen, begin
from exchange import Message, Model, Request, Settings
from generation import Limits
from links import MODELS, Comparison, to_query
from parting_section import parting_section
from settings_box import SettingsBox, read
from showing import conversation, notice, running
from sides import together
from step import QUIET, STREAM, Step
from stops import Stops

from hubq.errors import UserError

EXAMPLES = (
    "Why is the sky blue? Answer in two sentences.",
    "Write a short poem about a llama who forgets numbers.",
    "A train leaves at 14:40 and arrives at 17:05. How long does it take?",
    "List three causes of the French Revolution.",
)
FEWEST = 2
# A link is made whole where the page's own address is known.
WHOLE = "(query) => query && window.location.origin + window.location.pathname + '?' + query"


class CompareTab(NamedTuple):
    """What a page needs of the tab: where a link's prompt goes, what runs it, what follows."""

    prompt: gr.Textbox
    run: Step
    offer: Step  # to see where the answers part


def compare_tab(
    kitchen: Kitchen, stops: Stops, chosen: gr.Dropdown, settings: SettingsBox
) -> CompareTab:
    """Lay the tab out; `chosen` has the names of the models."""
    chat = gr.State(Chat())
    prompt = gr.Textbox(
        label="Prompt",
        lines=3,
        max_lines=12,
        placeholder="Ask all of them the same (Shift+Enter sends)",
        elem_id="prompt",
    )
    gr.Examples([[each] for each in EXAMPLES], prompt, label="Examples", api_visibility="private")
    with gr.Row():
        ask = gr.Button("Compare", variant="primary", elem_id="ask", min_width=110)
        halt = gr.Button("Stop", interactive=False, elem_id="halt", min_width=90)
        again = gr.Button("Regenerate", interactive=False, elem_id="again", min_width=110)
        clear = gr.Button("Clear", elem_id="clear", min_width=90)
    said = gr.HTML(elem_id="said", elem_classes="hubq-shown")
    answers = gr.HTML(elem_id="answers", elem_classes="hubq-shown")
    parting = parting_section(kitchen, stops, chat)
    with gr.Row():
        link = gr.Button(
            "Link to this comparison", elem_id="link", min_width=260, scale=0, size="md"
        )
        address = gr.Textbox(
            label="Link", buttons=["copy"], interactive=False, elem_id="address", visible=False
        )

    def send(
        request: gr.Request, chat: Chat, names: list[str], prompt: str, system: str, *values: float
    ) -> Iterator[tuple[Any, ...]]:
        """Ask all models; the box of the prompt is emptied once it is taken."""
        try:
            settings = checked(kitchen.generation.limits, names, prompt, read(values))
        except UserError as error:
            yield _refused(error)
            return
        goes_on = chat.goes_on(names, system)
        yield from stream(chat if goes_on else begin(names, system), prompt, settings, request)

    def redo(
        request: gr.Request, chat: Chat, names: list[str], _: str, system: str, *values: float
    ) -> Iterator[tuple[Any, ...]]:
        """Ask the last prompt again, as models and settings are now."""
        prompt = chat.prompts[-1] if chat.prompts else ""
        yield from send(request, chat.without_last(), names, prompt, system, *values)

    def stream(
        chat: Chat, prompt: str, settings: Settings, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        kept: object = ""  # of the prompt: emptied once, as visitors may go on typing
        with stops.watch(request.session_hash) as watch:
            for sides in together(
                chat.names, kitchen.starts(chat, prompt, settings, watch.stop), watch
            ):
                yield _shown(gr.skip(), running(chat.lines, prompt, sides), kept, busy=True)
                kept = gr.skip()
        done = chat.with_turn(prompt, settings, sides)
        yield _shown(done, conversation(done.lines), kept, busy=False)

    inputs = [chat, chosen, prompt, settings.system, *settings.controls]
    outputs = [chat, said, answers, prompt, ask, halt, again]
    run = Step(send, inputs, outputs)
    sent = gr.on([ask.click, prompt.submit], *run, **STREAM)
    redone = again.click(redo, inputs, outputs, **STREAM)
    for each in (sent, redone):
        each.then(*parting.offer, **QUIET)
    # Halted, a stream ends by itself and keeps what it has; cleared, nothing may come after.
    halt.click(halting(stops), None, None, queue=False, **QUIET)
    clear.click(
        halting(stops), None, None, queue=False, cancels=[sent, redone, parting.seeing], **QUIET
    ).then(lambda: _shown(Chat(), "", "", busy=False), None, outputs, **QUIET).then(
        *parting.offer, **QUIET
    )
    link.click(_linked, inputs, [address, said], **QUIET).then(
        None, address, address, js=WHOLE, **QUIET
    )
    return CompareTab(prompt, run, parting.offer)


def halting(stops: Stops) -> Callable[[gr.Request], None]:
    """Return what stops all answers of a visitor; the streams then end by themselves."""

    def halt(request: gr.Request) -> None:
        stops.stop(request.session_hash)

    return halt


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


def _refused(error: UserError) -> tuple[Any, ...]:
    return gr.skip(), notice(str(error)), *[gr.skip()] * 5


def _shown(chat: object, answers: str, prompt: object, *, busy: bool) -> tuple[Any, ...]:
    """Return the outputs: while answers come they can be stopped, and nothing else."""
    begun = isinstance(chat, Chat) and bool(chat.prompts)
    return (
        chat,
        "",
        answers,
        prompt,
        gr.update(interactive=not busy),
        gr.update(interactive=busy),
        gr.update(interactive=begun and not busy),
    )


def _linked(
    chat: Chat, names: list[str], prompt: str, system: str, *values: float
) -> tuple[Any, str]:
    """Make the query of a link to what was asked last; before that, to what stands in the boxes."""
    try:
        if chat.prompts:
            query = to_query(_link(chat.names, chat.prompts[-1], chat.system, chat.settings))
        else:
            query = to_query(_link(names, prompt, system, read(values)))
    except UserError as error:
        return gr.update(value="", visible=False), notice(str(error))
    earlier = "A link holds the last prompt; what was said before it is not in it."
    return gr.update(value=query, visible=True), notice(earlier if len(chat.prompts) > 1 else "")


def _link(names: Sequence[str], prompt: str, system: str, settings: Settings) -> Comparison:
    return Comparison(tuple(names), prompt, system, settings.model_dump())
