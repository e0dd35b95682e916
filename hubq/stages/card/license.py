"""Licenses: what the Hub calls them, and what it wants to know of those that it has no id for."""

import re
from collections.abc import Collection

from hubq.records.vocabulary import HUB_LICENSES, LICENSE_FILES, PUBLIC_HUB
from hubq.sources.license_terms import TERMS, terms_of

UNNAMED = "same-as-base-model"  # the Hub wants a name for `other`, and the base gave none

# What licenses want displayed prominently; the rest is in hubq/sources/license_terms.py.
BUILT_WITH = {name: each.built_with for name, each in TERMS.items() if each.built_with}


def metadata(
    license: str | None, base_model: str | None, files: Collection[str] = ()
) -> dict[str, str]:
    """Return the card's license keys: the base's license, never one of our choosing.

    `files` are the paths in the repo, among which the text of the license may be.
    """
    if license is None:
        return {}
    if license in HUB_LICENSES and license != "other":
        return {"license": license}
    name = re.sub(r"[^a-z0-9.]+", "-", license.lower()).strip("-")
    keys = {"license": "other", "license_name": UNNAMED if name in ("", "other") else name}
    link = _link(license, base_model, files)
    return keys if link is None else {**keys, "license_link": link}


def _link(license: str, base_model: str | None, files: Collection[str]) -> str | None:
    """Return where the text is: in the repo, at its owner's, or else somewhere at the base's."""
    here = [name for name in LICENSE_FILES if name in files]
    if here:
        return here[0]
    if terms := terms_of(license):
        return terms.address
    return None if base_model is None else f"{PUBLIC_HUB}/{base_model}"
