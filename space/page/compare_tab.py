"""The tab where models answer the same prompt side by side, and where their answers part."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
from serving.conversation import Chat, Kitchen
from serving.messages import Settings

from hubq.errors import UserError
from page.answer_html import notice, said_aloud
from page.compare_events import Boxes, Comparing
from page.deep_links import Comparison, to_query
from page.divergence_section import parting_section
from page.events import COUNT, QUIET, STREAM, Step, click_number, kept
from page.sampling_settings import SettingsBox, read
from page.stream_cancellation import Stops

EXAMPLES = (
    "Why is the sky blue? Answer in two sentences.",
    "Write a short poem about a llama who forgets numbers.",
    "A train leaves at 14:40 and arrives at 17:05. How long does it take?",
    "List three causes of the French Revolution.",
)
EARLIER = "A link holds the last prompt; what was said before it is not in it."
# A link is made whole where the page's own address is known.
WHOLE = "(query) => query && window.location.origin + window.location.pathname + '?' + query"


class CompareTab(NamedTuple):
    """What a page needs of the tab: where a link's prompt goes, and what runs it."""

    prompt: gr.Textbox
    run_link: Step  # behind whether there is something to run


def compare_tab(
    kitchen: Kitchen, stops: Stops, chosen: gr.Dropdown, settings: SettingsBox
) -> CompareTab:
    """Lay the tab out; `chosen` has the names of the models."""
    chat, click = kept(Chat()), click_number()
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
    parting = parting_section(kitchen, stops, chat, halt)
    boxes = Boxes(chat, said, answers, prompt, ask, again)
    does = Comparing(kitchen, stops, boxes, parting)
    asked = [chat, chosen, prompt, settings.system, *settings.controls]
    inputs, outputs = [click, *asked], [*boxes, *parting.outputs]
    gr.on([ask.click, prompt.submit], does.send, inputs, outputs, js=COUNT, **STREAM)
    again.click(does.redo, inputs, outputs, js=COUNT, **STREAM)
    halt.click(does.halt, None, None, queue=False, **QUIET)
    clear.click(does.clear, click, outputs, js=COUNT, concurrency_limit=None, **QUIET)
    _link_row(asked, said, parting.aloud)
    return CompareTab(prompt, Step(does.run_link, inputs, outputs))


def _link_row(asked: list[Any], said: gr.HTML, aloud: gr.HTML) -> None:
    """Lay out what makes a link."""
    with gr.Row():
        link = gr.Button(
            "Link to this comparison", elem_id="link", min_width=260, scale=0, size="md"
        )
        address = gr.Textbox(
            label="Link", buttons=["copy"], interactive=False, elem_id="address", visible=False
        )
    link.click(_linked, asked, [address, said, aloud], **QUIET).then(
        None, address, address, js=WHOLE, **QUIET
    )


def _linked(
    chat: Chat, names: list[str], prompt: str, system: str, *values: float
) -> tuple[Any, str, str]:
    """Make the query of a link to what was asked last; before that, to what stands in the boxes."""
    try:
        if chat.prompts:
            query = to_query(_link(chat.names, chat.prompts[-1], chat.system, chat.settings))
        else:
            query = to_query(_link(names, prompt, system, read(values)))
    except UserError as error:
        words = str(error)
        return gr.update(value="", visible=False), notice(words), said_aloud(words)
    words = EARLIER if len(chat.prompts) > 1 else ""
    return gr.update(value=query, visible=True), notice(words), said_aloud(words)


def _link(names: Sequence[str], prompt: str, system: str, settings: Settings) -> Comparison:
    return Comparison(tuple(names), prompt, system, settings.model_dump())
