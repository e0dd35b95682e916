"""Where two saved recipes differ, as lines for people."""

from collections.abc import Mapping
from typing import Any


def understood(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a saved recipe as it is read now: with the options that hubq has learnt since."""
    from pydantic import ValidationError

    from hubq.stages.recipe.recipe import Recipe

    try:
        return Recipe.model_validate(recipe).model_dump(mode="json")
    except ValidationError:
        return recipe


def differences(there: Any, here: Any, place: str = "") -> list[str]:  # noqa: ANN401
    """List where two JSON values differ, one line for each place."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        lines: list[str] = []
        for key in {**there, **here}:
            inner = f"{place}.{key}" if place else str(key)
            lines += differences(there.get(key), here.get(key), inner)
        return lines
    return [] if there == here else [f"{place}: {_short(there)} there, {_short(here)} now"]


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
