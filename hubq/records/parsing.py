"""What strangers wrote, read without trust: JSON, the YAML of a card, and what a card says.

Two ways in. What lies in a repo is described without its damaged parts, since one repo must not
break a list of all. What a request says is refused instead, since its sender can mend it.
"""

import json
import math
import re
from typing import Any

import yaml

MAX_DEPTH = 64
MAX_VALUES = 500_000  # of one JSON text: each takes some 50 to 100 bytes of memory
_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# As keys of a card these clash with arguments of the client's own class, and stop its lists.
UNSHOWN = ("self", "ignore_metadata_errors")
MAX_METADATA = 256 * 1024  # characters; libyaml takes half a second for them
# PyYAML's own parser takes ten times as long; it is there where libyaml isn't.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What its constructors raise for `2024-13-45`, `!!int ""`, `!!bool x` and the like.
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def json_value(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Turn a value that YAML or JSON gave into one that JSON can hold.

    What it can't hold (NaN, infinities, more than 64 levels) becomes null, dates become text.
    """
    if isinstance(value, dict) and depth < MAX_DEPTH:
        return {_key(key): json_value(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set) and depth < MAX_DEPTH:
        return [json_value(inner, depth + 1) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if isinstance(value, dict | list | tuple | set) else utf8_text(value)


def utf8_text(value: object) -> str:
    """Write a value as text that UTF-8 can hold: halves of characters are joined or replaced."""
    written = str(value)
    if written.isascii():
        return written
    return written.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_json(content: bytes) -> object:
    """Read the JSON of a request, or of anything that its sender can mend.

    Raises ValueError for what is none, and for what can't be written again: NaN, half characters,
    numbers of more than 63 bits, more than 64 levels.
    """
    value = _load(content)
    if json_value(value) != value:
        raise ValueError("a number or a string that JSON can't represent")
    return value


def read_damaged_json(content: bytes) -> object:
    """Read the JSON of a file in a repo as far as it can be shown; None when it is none."""
    try:
        return json_value(_load(content))
    except ValueError:
        return None


def _load(content: bytes) -> object:
    if content.count(b",") + content.count(b"[") + content.count(b"{") > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _key(key: object) -> str:
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(json_value(key))
    return utf8_text(key)


def read_yaml(front: str) -> Any:  # noqa: ANN401 - whatever YAML holds
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
            raise yaml.YAMLError("nested too deeply")


def split_card(readme: str) -> tuple[str | None, str]:
    """Split a README into its YAML, if it has any, and its text."""
    match = _FRONT_MATTER.match(readme)
    if match is None:
        return None, readme
    return match[1] or "", readme[match.end() :]


def card_metadata(readme: str) -> dict[str, Any]:
    """Return what JSON can hold of a card's YAML; nothing when it is missing or broken."""
    front, _ = split_card(readme)
    try:
        values = read_yaml(front or "")
    except yaml.YAMLError:
        return {}
    if not isinstance(values, dict):
        return {}
    return {key: value for key, value in json_value(values).items() if key not in UNSHOWN}


def card_tags(card: dict[str, Any], kind: str) -> list[str]:
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
