"""The README.md of a Space, whose head tells the Hub how to build and run it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hubq.sources.base_card import front_matter, with_front_matter
from hubq.stages.publish.space.showcase import Showcase

ZERO = "zero-a10g"
INDEX = "index.html"
OF_AN_APP = frozenset({"sdk_version", "python_version", "suggested_hardware"})
STATIC = (
    "The numbers, charts and cards of an organization's quantized models, written by hubq from the "
    "reports that were published with them. Nothing runs here: `hubq space run` compares answers."
)
# The only Python of ZeroGPU that hubq runs on; elsewhere it is the one of the tests.
PYTHON = {ZERO: "3.12.12"}


def readme(template: Path, showcase: Showcase, hardware: str, gradio: str) -> str:
    """Return the README of the app with what is particular to one Space."""
    values, text = front_matter(template.read_bytes(), template)
    values |= {
        "sdk_version": gradio,
        "python_version": PYTHON.get(hardware, values["python_version"]),
        "suggested_hardware": hardware,
        "models": showcase.models or None,
        "preload_from_hub": showcase.preloads or None,
    }
    return with_front_matter(_known(values), text)


def static_readme(template: Path, models: Sequence[str]) -> str:
    """Return the README of a static page, with the app's title and description."""
    values, _ = front_matter(template.read_bytes(), template)
    kept = {key: each for key, each in values.items() if key not in OF_AN_APP}
    kept |= {"sdk": "static", "app_file": INDEX, "models": list(models) or None}
    return with_front_matter(_known(kept), f"\n{STATIC}\n")


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
