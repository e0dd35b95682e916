"""The README.md of a Space, whose head tells the Hub how to build and run it."""

from pathlib import Path
from typing import Any

import yaml

from hubq.space.showcase import Showcase

ZERO = "zero-a10g"
# The only Python of ZeroGPU that hubq runs on; elsewhere it is the one of the tests.
PYTHON = {ZERO: "3.12.12"}


def readme(template: Path, showcase: Showcase, hardware: str, gradio: str) -> str:
    """Return the README of the app with what is particular to one Space."""
    _, head, text = template.read_text(encoding="utf-8").split("---\n", 2)
    values: dict[str, Any] = yaml.safe_load(head)
    values |= {
        "sdk_version": gradio,
        "python_version": PYTHON.get(hardware, values["python_version"]),
        "suggested_hardware": hardware,
        "models": showcase.models or None,
        "preload_from_hub": showcase.preloads or None,
    }
    return f"---\n{_yaml(values)}---\n{text}"


def _yaml(values: dict[str, Any]) -> str:
    known = {key: value for key, value in values.items() if value is not None}
    written: str = yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=10_000)
    return written
