"""The Space: released models side by side. Layout and handlers only.

`python app.py` serves it. What it shows is said by HUBQ_SPACE_ORG and HUBQ_SPACE_MODELS; on a
Space, by default, its own account's models.
"""

import os
from typing import Any

import gradio as gr
from catalogue import Catalogue
from finding import Sources
from gradio.events import api
from links import MODELS, from_query
from numbers_tab import numbers_tab
from table import table

from hubq.client import Client
from hubq.patience import Patience

TITLE = "Compare quantized models"
# The fonts of the visitor's own machine: nothing is asked of other servers.
FONT = ("system-ui", "sans-serif")
THEME = gr.themes.Soft(primary_hue="blue", font=FONT, font_mono=("ui-monospace", "monospace"))
CSS = """
#closest {padding: var(--block-padding)}
footer {font-size: var(--text-xs)}
"""


def build(catalogue: Catalogue) -> gr.Blocks:
    """Return the page."""
    page = gr.Blocks(title=TITLE, analytics_enabled=False)
    with page:
        gr.Markdown(f"# {TITLE}\nWhat does it cost to store a model in fewer bits?")
        chosen = gr.Dropdown(
            label="Models to compare", multiselect=True, max_choices=MODELS, interactive=True
        )
        notes = gr.Markdown(visible=False)
        with gr.Tabs(), gr.Tab("Numbers", id="numbers"):
            numbers = numbers_tab(catalogue, chosen)

        def opened(request: gr.Request) -> tuple[Any, Any]:
            return _opened(catalogue, str(request.query_params))

        def rows() -> list[dict[str, Any]]:
            """Return all models, one a row; what was not measured is null."""
            made = table(catalogue.listing().models)
            return [dict(zip(made.headers, row, strict=True)) for row in made.rows]

        page.load(opened, None, [chosen, notes], api_visibility="private").then(
            *numbers, show_progress="hidden", api_visibility="private"
        )
        api(rows, api_name="table")
    return page


def _opened(catalogue: Catalogue, query: str) -> tuple[gr.Dropdown, gr.Markdown]:
    """Take a link's models, as far as they are here; say what is wrong with it."""
    comparison, problems = from_query(query)
    names = [each.name for each in catalogue.listing().models]
    gone = [f"{name} is not here (any more)." for name in comparison.models if name not in names]
    kept = [name for name in comparison.models if name in names]
    said = "\n".join(f"- {each}" for each in (*problems, *gone))
    return gr.Dropdown(names, value=kept), gr.Markdown(said, visible=bool(said))


def catalogue() -> Catalogue:
    """Return the models that the environment names; nobody waits long for a silent Hub."""
    return Catalogue(Sources.of(os.environ), Client(patience=Patience(tries=1)))


def main() -> None:
    """Serve the page until Ctrl-C."""
    page = build(catalogue())
    _, address, _ = page.launch(theme=THEME, css=CSS, quiet=True, prevent_thread_lock=True)
    print(f"the Space is at {address}", flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
