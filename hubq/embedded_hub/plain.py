"""What strangers wrote, read without trust: values that JSON and HTML can hold, or refused.

Two ways in. What lies in a repo is described without its damaged parts, since one repo must not
break a list of all. What a request says is refused instead, since its sender can mend it.
"""

import json
import math
from typing import Any

MAX_DEPTH = 64
MAX_VALUES = 500_000  # of one JSON text: each takes some 50 to 100 bytes of memory


def plain(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Turn a value that YAML or JSON gave into one that JSON can hold.

    What it can't hold (NaN, infinities, more than 64 levels) becomes null, dates become text.
    """
    if isinstance(value, dict) and depth < MAX_DEPTH:
        return {_key(key): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set) and depth < MAX_DEPTH:
        return [plain(inner, depth + 1) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if isinstance(value, dict | list | tuple | set) else text(value)


def text(value: object) -> str:
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
    if plain(value) != value:
        raise ValueError("a number or a text that JSON can't hold")
    return value


def read_damaged_json(content: bytes) -> object:
    """Read the JSON of a file in a repo as far as it can be shown; None when it is none."""
    try:
        return plain(_load(content))
    except ValueError:
        return None


def _load(content: bytes) -> object:
    if content.count(b",") + content.count(b"[") + content.count(b"{") > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _key(key: object) -> str:
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(plain(key))
    return text(key)
