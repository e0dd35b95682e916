"""What a published model is called, within what its licence asks of names."""

import re
from typing import TYPE_CHECKING

from hubq.errors import UserError

if TYPE_CHECKING:
    from hubq.recipe import Recipe
    from hubq.source import Source


def repo_name(recipe: "Recipe", source: "Source") -> str:
    """Return the repo's name: the recipe's, or one made of base, method and bits."""
    license = recipe.publish.license or source.license
    start = required_start(license)
    name = recipe.publish.name
    if name is None:
        return _made(recipe, source, start)
    if start and not name.lower().startswith(start.lower()):
        raise UserError(
            f"publish.name {name}: the licence {license} asks that the name begin with {start}; "
            f"use {start}-{name}, or leave name out"
        )
    return name


def required_start(license: str | None) -> str | None:
    """Return how Meta's licences (section 1.b.i) want a derived model's name to begin."""
    if license == "llama3":
        return "Llama-3"
    return "Llama" if license and re.fullmatch(r"llama(3\.\d|[4-9].*)", license) else None


def _made(recipe: "Recipe", source: "Source", start: str | None) -> str:
    base = _base(recipe, source)
    if start and not base.lower().startswith(start.lower()):
        base = base.removeprefix("Meta-")
        base = base if base.lower().startswith(start.lower()) else f"{start}-{base}"
    title = re.sub(r"[^A-Za-z0-9.]+", "-", recipe.method.title)
    return f"{base}-{title}-{recipe.method.nominal_bits:.3g}bit"


def _base(recipe: "Recipe", source: "Source") -> str:
    """Return the base's short name, whatever is known of it."""
    model = recipe.model
    if source.base_model is not None:
        return source.base_model.partition("@")[0].rpartition("/")[2]
    if model.gguf is not None:
        return model.gguf.stem
    if model.wheel is not None:
        return model.wheel.file.rpartition("/")[2].removesuffix(".gguf")
    assert model.folder is not None, "a Hub id is a base_model"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model.folder.name)
