"""A recipe as text that may leave this machine: short, and without the names of its folders."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

from hubq.recipe import Recipe


def spell(recipe: Mapping[str, Any]) -> str:
    """Return the YAML of a plan's recipe: no defaults, one word where that says all.

    A local path is cut to its last name: a card must not tell how somebody's disk is laid out.
    """
    checked = Recipe.model_validate(recipe)
    values = checked.model_dump(exclude_defaults=True, exclude={"name"})
    return yaml.safe_dump(_short(values), sort_keys=False, allow_unicode=True, width=100)


def _short(value: Any) -> Any:  # noqa: ANN401 - any value of a recipe
    if isinstance(value, PurePath):
        return f"./{value.name}"
    if isinstance(value, tuple | list):
        return [_short(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    short = {key: _short(each) for key, each in value.items()}
    if len(short) == 1 and next(iter(short)) in ("hub", "folder", "gguf", "file", "dataset"):
        return next(iter(short.values()))
    return short
