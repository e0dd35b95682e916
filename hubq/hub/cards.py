"""Model cards: the YAML in front of a README.md, what it says and what is wrong with it."""

import re
from typing import Any

import yaml

_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class _Loader(yaml.SafeLoader):
    """Reads YAML without aliases, by which a few lines could grow to fill the memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def parse(front: str) -> object:
    """Parse the YAML of a card.

    Raises YAMLError when it is broken, uses aliases, or is nested too deep.
    """
    try:
        return yaml.load(front, _Loader)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deep") from error


def split(readme: str) -> tuple[str | None, str]:
    """Split a README into its YAML, if it has any, and its text."""
    match = _FRONT_MATTER.match(readme)
    if match is None:
        return None, readme
    return match[1] or "", readme[match.end() :]


def metadata(readme: str) -> dict[str, Any]:
    """Return what a card's YAML says; nothing when it is missing or broken."""
    front, _ = split(readme)
    try:
        values = parse(front or "")
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


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
