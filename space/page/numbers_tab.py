"""The tab with all that was measured: which is closest, the table, the charts, the cards."""

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.report import Report
from hubq.stages.recipe.text import recipe_text
from page.charts import PRESSED, pareto, recovery_chart
from page.events import Step
from page.guard import unchecked
from page.sampling_settings import MODELS
from releases.catalogue import Catalogue
from releases.comparison import closest, points, qualities, table, widths
from releases.models import Listing, Problem, Released

Choice = TypeVar("Choice")
ABOUT_CHART = (
    "Each point is a model; the line joins those that no other clearly beats: where 95 "
    "% intervals overlap, no difference is clear. Point at a model for its numbers; "
    "press it to compare it."
)
ABOUT_RECOVERY = "For the compared models; if none is chosen, for those that the line joins."
LONGEST = 400_000  # bytes of a card that are shown


def numbers_tab(catalogue: Catalogue, chosen: gr.Dropdown) -> Step:
    """Lay the tab out and return what fills it; `chosen` has the names of the compared models."""
    base = unchecked(gr.Dropdown(label="Base model", interactive=True))
    bits = unchecked(
        gr.Radio(label="Which model is closest to its base at a given number of bits?")
    )
    answer = gr.HTML(container=True, elem_id="closest")
    numbers = gr.Dataframe(
        label="All models: sort by the menu of a heading; press a row to read its card below",
        interactive=False,
        max_height=440,
        elem_id="numbers",
    )
    gr.Markdown(f"### Quality against stored bits\n{ABOUT_CHART}")
    quality = unchecked(gr.Radio(label="Quality by", show_label=False))
    chart = gr.HTML(js_on_load=PRESSED, elem_id="pareto")
    gr.Markdown(f"### Recovery by task\n{ABOUT_RECOVERY}")
    recoveries = gr.HTML(elem_id="recovery")
    read = unchecked(gr.Dropdown(label="Read the card of", interactive=True))
    links = gr.HTML(elem_id="links")
    with gr.Accordion("Its recipe", open=False, visible=False) as recipe:
        written = gr.Code(language="yaml", show_label=False, interactive=False, elem_id="recipe")
    card = gr.Markdown(elem_id="card")
    with gr.Accordion("What could not be shown", open=False, visible=False) as trouble:
        problems = gr.HTML()

    filled = [base, bits, answer, numbers, quality, chart, recoveries, read, trouble, problems]
    step = Step(_fill(catalogue), [base, bits, quality, chosen, read], filled)
    asked = [base.input, bits.input, quality.input, chosen.input]
    gr.on(asked, *step, show_progress="hidden", api_visibility="private")
    chart.select(_press, chosen, chosen, api_visibility="private").then(
        *step, show_progress="hidden", api_visibility="private"
    )
    numbers.select(_row, None, read, api_visibility="private")
    shown = [links, recipe, written, card]
    read.change(lambda name: _card(catalogue, name), read, shown, api_visibility="private")
    return step


def _fill(catalogue: Catalogue) -> Callable[..., list[Any]]:
    """Return what reads the choices and gives what the tab shows."""

    def show(base: str, bits: int, quality: str, chosen: list[str], read: str) -> list[Any]:
        listing = catalogue.listing()
        picked = _kept(base, listing.bases)
        models = listing.of_base(picked) if picked else ()
        made = table(listing.models)
        return [
            gr.Dropdown(listing.bases, value=picked, visible=len(listing.bases) > 1),
            *_closest(models, bits),
            gr.Dataframe(made.for_dataframe(), datatype=made.datatypes),
            *_charts(models, quality, chosen),
            *_cards(listing.models, read),
            *_troubles(listing),
        ]

    return show


def _kept(
    value: Choice | None, choices: Iterable[Choice], wanted: Choice | None = None
) -> Choice | None:
    """Return a value that still is a choice; else the wanted one, else the first, else None."""
    every = list(choices)
    return next((each for each in (value, wanted, *every) if each in every), None)


def _closest(models: Sequence[Released], bits: int | None) -> tuple[gr.Radio, str]:
    every = widths(models)
    kept = _kept(bits, every, 4)
    said = "No model was found." if kept is None else closest(models, kept)[1]
    return gr.Radio(
        [(f"{each} bit{'s' * (each > 1)}", each) for each in every], value=kept
    ), emphasized(said)


def _charts(
    models: Sequence[Released], quality: str | None, chosen: Sequence[str]
) -> tuple[gr.Radio, str, str]:
    """Return the choice of qualities and both charts."""
    every = {each.name: each for each in qualities(models)}
    kept = _kept(quality, every)
    if kept is None:
        return gr.Radio([], value=None), "", "No model was measured."
    best = [each.model for each in points(models, every[kept]) if each.is_front]
    compared = [each for each in models if each.name in chosen and not each.is_base]
    return (
        gr.Radio([*every], value=kept),
        pareto(models, every[kept], chosen),
        recovery_chart(compared or best),
    )


def _cards(models: Sequence[Released], read: str | None) -> tuple[gr.Dropdown]:
    names = [each.name for each in models if not each.is_base]
    return (gr.Dropdown(names, value=read if read in names else None),)


def _troubles(listing: Listing) -> tuple[gr.Accordion, str]:
    said = "".join(f"<li>{escape(each.sentence)}</li>" for each in listing.problems)
    return gr.Accordion(visible=bool(said)), f"<ul>{said}</ul>"


def _press(chosen: list[str], event: gr.SelectData) -> list[str]:
    """Compare the pressed model, or no longer; of too many the first goes."""
    name = str(event.value)
    if name in chosen:
        return [each for each in chosen if each != name]
    return [*chosen, name][-MODELS:]


def _row(event: gr.SelectData) -> str:
    return str(event.row_value[0]) if event.row_value else ""


def _card(catalogue: Catalogue, name: str | None) -> tuple[str, gr.Accordion, str, str]:
    """Return the links to a model's papers, its recipe and its card."""
    if not name:
        return "", gr.Accordion(visible=False), "", ""
    model = catalogue.pick(name)
    if isinstance(model, Problem):
        return f"<p>{escape(model.sentence)}</p>", gr.Accordion(visible=False), "", ""
    recipe = recipe_text(model.measured.plan) if isinstance(model.measured, Report) else ""
    shown = gr.Accordion(visible=bool(recipe))
    return _links(model), shown, recipe, card_text(model, catalogue.client)


def _links(model: Released) -> str:
    places = {"repo": model.card_url, "recipe": model.recipe_url}
    linked = [
        f'<a href="{escape(url)}" target="_blank" rel="noopener">{title}</a>'
        for title, url in places.items()
        if url
    ]
    return f"<p>{' · '.join([*linked, f'license: {escape(model.license_line)}'])}</p>"


def emphasized(text: str) -> str:
    """Return a text as HTML; between pairs of two stars it stands out, all else is literal."""
    strong = re.sub(r"[*]{2}(.+?)[*]{2}", r"<strong>\1</strong>", escape(text))
    return f"<p>{strong}</p>"


def card_text(model: Released, client: Client) -> str:
    """Return the card's markdown without its metadata, or a sentence on why there is none."""
    if model.is_base:
        return f"**{model.name}** is the base: its own page describes it."
    try:
        path = _card_file(model, client)
    except UserError as error:
        return str(error)
    if path is None:
        return f"There is no card of {model.name} here: hubq card RECIPE writes one."
    with path.open("rb") as file:
        return without_metadata(file.read(LONGEST).decode(errors="replace"))


def _card_file(model: Released, client: Client) -> Path | None:
    """Return the card's file; that of a repo comes at the commit that is compared."""
    if model.card_file is not None or model.weights is None or model.weights.repo is None:
        return model.card_file
    repo, _, commit = model.weights.repo.partition("@")
    with client.translate_errors(f"reading the card of {repo}"):
        return Path(
            client.retries.call(
                lambda: client.api().hf_hub_download(repo, "README.md", revision=commit)
            )
        )


def without_metadata(readme: str) -> str:
    """Drop the YAML block at the head of a card."""
    parts = readme.split("---\n", 2)
    return parts[2].lstrip() if len(parts) == 3 and not parts[0].strip() else readme
