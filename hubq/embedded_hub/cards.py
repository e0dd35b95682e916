"""Model cards: the YAML in front of a README.md, what it says and what is wrong with it."""

import re
from typing import Any

import yaml

from hubq.embedded_hub.plain import MAX_DEPTH, plain

_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


# As keys of a card these clash with arguments of the client's own class, and stop its lists.
UNSHOWN = ("self", "ignore_metadata_errors")
MAX_METADATA = 256 * 1024  # characters; libyaml takes half a second for them
# PyYAML's own parser takes ten times as long; it is there where libyaml isn't.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What its constructors raise for `2024-13-45`, `!!int ""`, `!!bool x` and the like.
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def parse(front: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Parse the YAML of a card. What it gives may hold more than JSON can.

    Raises YAMLError when it is broken, too long, nested too deep, or uses aliases, by which a few
    lines could grow to fill the memory.
    """
    if len(front) > MAX_METADATA:
        raise yaml.YAMLError(f"longer than {MAX_METADATA} characters")
    try:
        _check_structure(front)
        return yaml.load(front, _Loader)
    except _BROKEN as error:
        raise yaml.YAMLError(f"a value that its type doesn't allow: {error}") from error


def _check_structure(front: str) -> None:
    depth = 0
    for event in yaml.parse(front, _Loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError("nested too deep")


def split(readme: str) -> tuple[str | None, str]:
    """Split a README into its YAML, if it has any, and its text."""
    match = _FRONT_MATTER.match(readme)
    if match is None:
        return None, readme
    return match[1] or "", readme[match.end() :]


def metadata(readme: str) -> dict[str, Any]:
    """Return what JSON can hold of a card's YAML; nothing when it is missing or broken."""
    front, _ = split(readme)
    try:
        values = parse(front or "")
    except yaml.YAMLError:
        return {}
    if not isinstance(values, dict):
        return {}
    return {key: value for key, value in plain(values).items() if key not in UNSHOWN}


def tags(card: dict[str, Any], kind: str) -> list[str]:
    """List the tags that follow from a card, as the Hub shows and filters them."""
    found = [str(tag) for tag in _listed(card.get("tags"))]
    if kind == "model":
        found = [str(card[key]) for key in ("pipeline_tag", "library_name") if key in card] + found
    found += [str(language) for language in _listed(card.get("language"))]
    relation = card.get("base_model_relation")
    for base in _listed(card.get("base_model")):
        found += [f"base_model:{base}"] + ([f"base_model:{relation}:{base}"] if relation else [])
    found += [f"dataset:{name}" for name in _listed(card.get("datasets"))]
    found += [f"license:{name}" for name in _listed(card.get("license"))]
    return list(dict.fromkeys(found))


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
