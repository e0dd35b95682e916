"""What the recipes of a matrix are called: by their file, method and bits, and by what differs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hubq.stages.recipe.recipe import Recipe


class Member(NamedTuple):
    """One recipe of a file, and what tells it from the first that would have its name."""

    recipe: Recipe
    apart: str = ""
    line: int | None = None  # where its method stands; None: in a file of its own


def named(stem: str, members: Sequence[Member], *, with_model: bool) -> Iterator[Member]:
    """Name recipes by the file, method and bits; those but the first of a name by what differs too.

    So a name stays when alternatives are added behind those that there are.
    """
    first: dict[str, Recipe] = {}
    taken: set[str] = set()
    for member in _different(members):
        recipe = member.recipe
        model = [_short_name(recipe)] if with_model else []
        name = "-".join([stem, *model, f"{recipe.method_name}_{recipe.method.nominal_bits:.3g}bit"])
        apart = _apart(recipe, first.setdefault(name, recipe))
        unique = f"{name}-{apart}" if apart else name
        number = 1
        while unique in taken:
            number += 1
            apart = f"{apart}-{number}".lstrip("-")
            unique = f"{name}-{apart}"
        taken.add(unique)
        yield Member(recipe.model_copy(update={"name": unique}), apart, member.line)


def _different(members: Sequence[Member]) -> list[Member]:
    """Drop members whose recipe is like an earlier one."""
    found: dict[str, Member] = {}
    for each in members:
        found.setdefault(each.recipe.model_dump_json(), each)
    return list(found.values())


def _short_name(recipe: Recipe) -> str:
    """Return a model's name without its organization or folder."""
    model = recipe.model
    known = model.hub or model.base_model or ""
    where = model.folder or model.gguf or (Path(model.wheel.file) if model.wheel else None)
    name = known.partition("@")[0].rpartition("/")[2]
    return _plain(name or (where.stem if where is not None else "model"))


def _apart(recipe: Recipe, first: Recipe) -> str:
    """Say in a few words in what a recipe differs from the first of its name."""
    own, other = (dict(_leaves(each.model_dump(mode="json"))) for each in (recipe, first))
    words = []
    for place, value in own.items():
        if value == other.get(place) or place[0] == "name":
            continue
        says_all = place[-1] in ("format", "name", "hub", "file", "folder")
        words.append(_plain(str(value) if says_all else f"{place[-1]}_{value}"))
    return "-".join(filter(None, words))[:60].strip("-_.")


def _leaves(value: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, (*place, str(key)))
    else:
        yield place, value


def _plain(words: str) -> str:
    """Spell words as a file's name may have them."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", words.rpartition("/")[2]).strip("-.")
