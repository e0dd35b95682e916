"""How tokens are chosen, in one place for all models: the controls, and reading them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gradio as gr
from serving.messages import Settings

from page.deep_links import SETTINGS

ABOUT = (
    "They hold for all models alike. Temperature 0 is greedy: each model says what it finds "
    "likeliest, and the seed changes nothing."
)
NAMES = tuple(SETTINGS)


class SettingsBox(NamedTuple):
    """The components, the settings in the order of NAMES."""

    system: gr.Textbox
    controls: list[gr.components.FormComponent]


def settings_box(most_tokens: int) -> SettingsBox:
    """Lay the settings out, closed until somebody wants them."""
    with gr.Accordion("Settings: length, sampling, seed, system prompt", open=False):
        gr.Markdown(ABOUT)
        system = gr.Textbox(
            label="System prompt", lines=1, max_lines=6, placeholder="None", elem_id="system"
        )
        with gr.Row():
            length = gr.Slider(1, most_tokens, value=256, step=1, label="Most new tokens")
            temperature = gr.Slider(0, 2, value=0, step=0.05, label="Temperature (0: greedy)")
        with gr.Row():
            top_p = gr.Slider(0.01, 1, value=1, step=0.01, label="Top p (1: all)")
            top_k = gr.Slider(0, 1000, value=0, step=1, label="Top k (0: all)")
        with gr.Row():
            penalty = gr.Slider(1, 2, value=1, step=0.05, label="Repetition penalty (1: none)")
            seed = gr.Number(
                value=0,
                precision=0,
                minimum=0,
                maximum=SETTINGS["seed"].high,
                label="Seed, the same for all",
            )
    return SettingsBox(system, [length, temperature, top_p, top_k, penalty, seed])


def read(values: tuple[Any, ...]) -> Settings:
    """Return what the controls say; raise UserError in words for what can't be."""
    given = dict(zip(NAMES, values, strict=True))
    return Settings.checked({name: value for name, value in given.items() if value is not None})


def of(settings: Mapping[str, float], most_tokens: int) -> tuple[list[Any], tuple[str, ...]]:
    """Return the controls' values for a link's settings, and what had to be changed."""
    asked = settings["max_new_tokens"]
    if asked <= most_tokens:
        return [settings[name] for name in NAMES], ()
    values = {**settings, "max_new_tokens": most_tokens}
    said = f"This link asks for {asked:g} new tokens; {most_tokens} are the most here."
    return [values[name] for name in NAMES], (said,)
