"""The recipe of a card and of its repo: YAML again, as it was understood.

Defaults are written out, as they may be others in later versions. A key without a value is left out
where that means the same: not where something was switched off that is on by default.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from hubq.records.plan import Plan

LOCAL = ("folder", "gguf", "file")  # the recipe's keys that name files of the maker's machine


def recipe_text(plan: Plan) -> str:
    """Write a plan's recipe as YAML.

    A file of the maker's machine is named without its folder, which is nobody else's business.
    """
    import yaml

    from hubq.stages.recipe.recipe import Recipe

    recipe = {key: value for key, value in plan.recipe.items() if key != "name"}
    return yaml.safe_dump(
        _written(presentable(recipe), Recipe), sort_keys=False, allow_unicode=True
    )


def _written(value: Any, kind: type[BaseModel] | None) -> Any:  # noqa: ANN401 - any JSON value
    """Drop the keys that say nothing, all the way down; `kind` is the record that has the keys."""
    if isinstance(value, list):
        return [_written(each, kind) for each in value]
    if not isinstance(value, Mapping):
        return value
    fields = {} if kind is None else kind.model_fields
    kept = {}
    for name, each in value.items():
        field = fields.get(name)
        if each is None and (field is None or field.default is None):
            continue
        inside = _written(each, None if field is None else _record_in(field.annotation))
        if inside != {}:
            kept[name] = inside
    return kept


def _record_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a field's annotation
    """Return the record that a field holds: bare, or one or several of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_record_in(each) for each in get_args(annotation))
    return next((each for each in found if each is not None), None)


def presentable(value: Any, key: str = "") -> Any:  # noqa: ANN401 - any JSON value
    """Drop the folders of the maker's files from a recipe, all the way down."""
    if isinstance(value, Mapping):
        return {name: presentable(each, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [presentable(each) for each in value]
    return Path(value).name if value and key in LOCAL and Path(value).is_absolute() else value


def is_local(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Tell whether a recipe names files of the maker's machine, which others don't have."""
    if isinstance(value, Mapping):
        if value.get("wheel") is not None:
            return False  # its file lies in the wheel
        named = any(value.get(key) is not None for key in LOCAL)
        return named or any(map(is_local, value.values()))
    return isinstance(value, list | tuple) and any(map(is_local, value))
