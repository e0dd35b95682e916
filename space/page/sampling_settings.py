"""How tokens are chosen, for all models alike: the controls; and links that hold a comparison.

Deep links come from strangers: every value is bounded, none is trusted to be what it should be,
what is left out is the default, and what is broken gets a sentence.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from hubq.errors import UserError
from serving.messages import Settings

LONGEST = 6000  # characters of a query: some proxies end at 8 kB
MODELS = 4  # side by side
NAME = re.compile(r"(?!.*//)[\w.@:/-]{1,200}")  # org/name, a folder, a sha256
FIELDS = 64  # of a query that are looked at
ABOUT = (
    "They apply to all models. Temperature 0 is greedy: each model chooses its most likely "
    "token, and the seed has no effect."
)


class Range(NamedTuple):
    """What a setting may be; whole numbers have a whole default."""

    default: float
    low: float
    high: float


SETTINGS = {
    "max_new_tokens": Range(256, 1, 4096),
    "temperature": Range(0.0, 0.0, 2.0),
    "top_p": Range(1.0, 0.01, 1.0),
    "top_k": Range(0, 0, 1000),
    "repetition_penalty": Range(1.0, 1.0, 2.0),
    "seed": Range(0, 0, 2**31 - 1),
}


def defaults() -> dict[str, float]:
    """Return every setting as it is where nobody changed it."""
    return {name: each.default for name, each in SETTINGS.items()}


@dataclass(frozen=True)
class Comparison:
    """All that a comparison needs to be done again."""

    models: tuple[str, ...] = ()
    prompt: str = ""
    system: str = ""
    settings: Mapping[str, float] = field(default_factory=defaults)  # seed included


def to_query(comparison: Comparison) -> str:
    """Return the query of an address, without `?`; raise UserError for what no address can hold."""
    texts = {"prompt": comparison.prompt, "system": comparison.system}
    changed = {
        name: repr(float(value)) if isinstance(each.default, float) else value
        for name, each in SETTINGS.items()
        if (value := comparison.settings.get(name, each.default)) != each.default
    }
    query = urlencode(
        [
            *(("model", name) for name in comparison.models[:MODELS]),
            *((name, text) for name, text in texts.items() if text),
            *changed.items(),
        ]
    )
    if len(query) > LONGEST:
        raise UserError(
            f"this comparison makes a link of {len(query):,} characters, and some programs cut "
            f"links off at {LONGEST:,}. Shorten the prompt, or send it separately"
        )
    return query


def from_query(query: str) -> tuple[Comparison, tuple[str, ...]]:
    """Read a query; return what holds of it, and a sentence for each thing that doesn't."""
    if len(query) > LONGEST:
        return Comparison(), (
            f"This link is longer than {LONGEST:,} characters, so it was not read.",
        )
    try:
        pairs = parse_qsl(query.removeprefix("?"), errors="replace", max_num_fields=FIELDS)
    except ValueError:
        return Comparison(), ("This link can't be read: it has too many parts.",)
    values = dict(reversed(pairs))  # of several the first holds
    named = [value for key, value in pairs if key == "model"]
    models, problems = _models(named)
    settings = defaults()
    for name in SETTINGS.keys() & values.keys():
        if (value := _setting(name, values[name])) is None:
            problems.append(_refusal(name, values[name]))
        else:
            settings[name] = value
    texts = {name: _text(values.get(name, "")) for name in ("prompt", "system")}
    return Comparison(models=models, settings=settings, **texts), tuple(sorted(problems))


def _models(named: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the names that can be those of models, each once and not too many."""
    every = list(dict.fromkeys(named))
    sound = [name for name in every if NAME.fullmatch(name)]
    problems = ["This link names something that can't be a model; it was left out."] * (
        len(sound) < len(every)
    )
    if len(sound) > MODELS:
        problems.append(f"This link names {len(sound)} models; the first {MODELS} are used.")
    return tuple(sound[:MODELS]), problems


def _setting(name: str, text: str) -> float | None:
    """Read a setting; None for what is no number or out of its range."""
    known = SETTINGS[name]
    try:
        value = int(text) if isinstance(known.default, int) else float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and known.low <= value <= known.high else None


def _refusal(name: str, text: str) -> str:
    known = SETTINGS[name]
    return (
        f"This link sets {name} to {text[:20]!r}; it has to be from {known.low:.10g} to "
        f"{known.high:.10g}. {known.default:g} is used."
    )


def _text(text: str) -> str:
    """Drop what no keyboard types: control characters but for tabs and line ends."""
    return "".join(each for each in text if each in "\t\n" or each.isprintable())


NAMES = tuple(SETTINGS)


class SamplingControls(NamedTuple):
    """The components, the settings in the order of NAMES."""

    system: gr.Textbox
    controls: list[gr.components.FormComponent]


def sampling_controls(most_tokens: int) -> SamplingControls:
    """Lay the settings out, closed until somebody wants them."""
    with gr.Accordion("Settings: length, sampling, seed, system prompt", open=False):
        gr.Markdown(ABOUT)
        system = gr.Textbox(
            label="System prompt", lines=1, max_lines=6, placeholder="None", elem_id="system"
        )
        with gr.Row():
            length = _slider("max_new_tokens", 1, "Maximum new tokens", most_tokens)
            temperature = _slider("temperature", 0.05, "Temperature (0: greedy)")
        with gr.Row():
            top_p = _slider("top_p", 0.01, "Top p (1: all)")
            top_k = _slider("top_k", 1, "Top k (0: all)")
        with gr.Row():
            penalty = _slider("repetition_penalty", 0.05, "Repetition penalty (1: none)")
            seed = gr.Number(
                value=0,
                precision=0,
                minimum=0,
                maximum=SETTINGS["seed"].high,
                label="Seed, the same for all",
            )
    return SamplingControls(system, [length, temperature, top_p, top_k, penalty, seed])


def _slider(name: str, step: float, label: str, most: int | None = None) -> gr.Slider:
    known = SETTINGS[name]
    return gr.Slider(known.low, most or known.high, value=known.default, step=step, label=label)


def read_settings(values: tuple[Any, ...]) -> Settings:
    """Return what the controls say; raise UserError in words for what can't be."""
    given = dict(zip(NAMES, values, strict=True))
    return Settings.checked({name: value for name, value in given.items() if value is not None})


def values_of(settings: Mapping[str, float], most_tokens: int) -> tuple[list[Any], tuple[str, ...]]:
    """Return the controls' values for a link's settings, and what had to be changed."""
    asked = settings["max_new_tokens"]
    if asked <= most_tokens:
        return [settings[name] for name in NAMES], ()
    values = {**settings, "max_new_tokens": most_tokens}
    said = f"This link asks for {asked:g} new tokens; {most_tokens} is the limit here."
    return [values[name] for name in NAMES], (said,)
