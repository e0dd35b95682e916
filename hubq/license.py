"""Licences: what the Hub calls them, and what it wants to know of those that it has no id for."""

import re
from collections.abc import Collection

from hubq.terms import TERMS, terms_of

# The ids that the Hub takes, as its complaint about any other lists them; a licence that is not
# among them is `other` there, with a name.
_IDS = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m
    bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause
    bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license
    ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research
    intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3
    llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail
    openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
HUB_LICENSES = tuple(_IDS.split())
UNNAMED = "same-as-base-model"  # the Hub wants a name for `other`, and the base gave none

# What licences want displayed prominently; what else they ask for is in hubq/terms.py.
BUILT_WITH = {name: each.built_with for name, each in TERMS.items() if each.built_with}
LINKED = ("LICENSE", "LICENSE.md")  # the files of a repo that the Hub takes for a link


def metadata(
    license: str | None, base_model: str | None, files: Collection[str] = ()
) -> dict[str, str]:
    """Return the card's licence keys: the base's licence, never one of our choosing.

    `files` are the paths in the repo, among which the text of the licence may be.
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
    here = [name for name in LINKED if name in files]
    if here:
        return here[0]
    if terms := terms_of(license):
        return terms.address
    return None if base_model is None else f"https://huggingface.co/{base_model}"
