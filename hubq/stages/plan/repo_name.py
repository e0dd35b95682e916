"""What a published model is called, within what its license asks of names."""

import re
from typing import TYPE_CHECKING

from hubq.errors import UserError
from hubq.records.vocabulary import LONGEST_NAME
from hubq.sources.license_terms import governing, terms_of

if TYPE_CHECKING:
    from hubq.sources.source import Source
    from hubq.stages.recipe.recipe import Recipe


def repo_name(recipe: "Recipe", source: "Source") -> str:
    """Return the repo's name: the recipe's, or one made of base, method and bits."""
    license = governing(source.license, recipe.publish.license)
    start = required_start(license)
    name = recipe.publish.name
    if name is None:
        return _made(recipe, source, start)
    if start and not name.lower().startswith(start.lower()):
        raise UserError(
            f"publish.name {name}: the license {license} asks that the name begin with {start}; "
            f"use {start}-{name}, or leave name out"
        )
    return name


def required_start(license: str | None) -> str | None:
    """Return how a license wants the name of a derived model to begin."""
    if terms := terms_of(license):
        return terms.start
    # Meta has asked for this since Llama 3; a Llama that is newer than the table won't differ.
    return "Llama" if license and re.fullmatch(r"llama-?[4-9].*", license.lower()) else None


def _made(recipe: "Recipe", source: "Source", start: str | None) -> str:
    base = _plain(_base(recipe, source)) or "model"
    if start and not base.lower().startswith(start.lower()):
        base = base.removeprefix("Meta-")
        base = base if base.lower().startswith(start.lower()) else f"{start}-{base}"
    rest = f"-{_plain(recipe.method.title)}-{recipe.method.nominal_bits:.3g}bit"
    return base[: LONGEST_NAME - len(rest)].rstrip("-.") + rest


def _plain(words: str) -> str:
    """Spell words as the Hub takes them in a name."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", words)
    return re.sub(r"([-.])[-.]+", r"\1", kept).strip("-.")


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
    return model.folder.name
