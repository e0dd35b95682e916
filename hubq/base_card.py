"""What the base's repo says that its copies carry on: licence, languages, who may have it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hubq.client.vocabulary import is_language
from hubq.front_matter import UnreadableCardError
from hubq.records.plan import BaseCard, Gate

GATING = "extra_gated_"  # how the keys begin that shape the Hub's form for access requests


def base_card(card: Mapping[str, Any], gated: object = None) -> BaseCard:
    """Pick what copies carry on from a card's metadata and the Hub's word on the repo's gate."""
    plain = json.loads(json.dumps(dict(card), default=str))  # YAML has dates, records have not
    form = {key: value for key, value in plain.items() if key.startswith(GATING)}
    named = plain.get("language")
    languages = named if isinstance(named, list) else [named]
    if gated is None:
        gate: Gate | None = "unknown" if form else None
    else:
        gate = _gate(gated)
    return BaseCard(
        gate=gate,
        extra_gated=form,
        language=tuple(each for each in languages if is_language(each)),
        license=license_of(plain),
    )


def known_card(
    read: Callable[[], Mapping[str, Any]], license: str | None, gated: object = None
) -> BaseCard:
    """Pick from a card that may be unreadable: that is an error unless the licence is given.

    Of its gate the worst is supposed then.
    """
    try:
        return base_card(read(), gated)
    except UnreadableCardError as error:
        if license is None:
            raise
        form = {GATING: ""} if GATING in error.head else {}
        return base_card(form, gated).model_copy(update={"extra_gated": {}})


def license_of(card: Mapping[str, Any]) -> str | None:
    """Return the licence's id: `license`, or `license_name` where that says only "other"."""
    found = card.get("license")
    if isinstance(found, list):
        found = found[0] if found else None
    if found == "other":
        found = card.get("license_name") or found
    return None if found is None else str(found)


def _gate(gated: object) -> Gate | None:
    """Read the API's `gated`: false, auto or manual."""
    match gated:
        case "auto":
            return "auto"
        case "manual":
            return "manual"
        case _:
            return "unknown" if gated else None
