"""The files that a licence wants beside the weights: copies of the base's, and notices.

What the base holds is copied byte for byte, its agreement and its policy of use above all. An
agreement that the base lacks is never made up: only the Apache License has a text that is the same
for everybody, so that hubq can write it; of any other, a file tells where its owner publishes it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hubq.terms import Terms, terms_of

LICENSE_FILE = re.compile(r"(licen[cs]e|notice|use_policy)[^/]*", re.IGNORECASE)
TEXT_SUFFIXES = ("", ".md", ".txt", ".pdf")
APACHE = Path(__file__).with_name("apache-2.0.txt")
NOTICE = "Notice.txt"
CHANGES = "MODIFICATIONS.txt"
WHEREABOUTS = "ABOUT_THE_LICENSE.txt"  # where the agreement is that the base does not hold
# How agreements word what the file must say: ... a "Notice" text file ...: "Llama 3.1 is ...".
_WORDING = re.compile(
    r"[\"“']notice[\"”'] text file[^:\"“]*:\s*[\"“](.{20,300}?)[\"”]", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class LicenceFiles:
    """The files to write, and a sentence on each for the card."""

    files: dict[str, bytes]
    facts: tuple[str, ...]


def is_licence_file(path: str) -> bool:
    """Tell whether a file of a repo holds terms or notices that travel along."""
    return bool(LICENSE_FILE.fullmatch(path)) and Path(path).suffix.lower() in TEXT_SUFFIXES


def licence_files(base: Path, license: str | None, changes: Sequence[str] = ()) -> LicenceFiles:
    """Write what a licence asks for and the folder `base` does not hold already.

    `changes` are sentences on files other than the weights and config.json that were changed.
    """
    terms = terms_of(license)
    if terms is None:
        return LicenceFiles({}, ())
    held = sorted(
        path.name for path in base.iterdir() if path.is_file() and is_licence_file(path.name)
    )
    agreement = next((name for name in held if re.match("licen[cs]e", name, re.IGNORECASE)), None)
    text = (base / agreement).read_text("utf-8", "replace") if agreement else ""
    parts = [
        _notice(terms, license, text, held),
        _agreement(terms, license) if agreement is None else None,
        _changes(changes) if terms.marks_changes else None,
    ]
    found = [part for part in parts if part is not None]
    policy = _policy_fact(terms, held)
    return LicenceFiles(
        files={name: content for name, content, _ in found},
        facts=(*(fact for _, _, fact in found), *((policy,) if policy else ())),
    )


def _notice(
    terms: Terms, license: str | None, agreement: str, held: Sequence[str]
) -> tuple[str, bytes, str] | None:
    """Write the Notice that the licence asks for, unless the base has one to copy."""
    if terms.notice is None or any(name.lower().startswith("notice") for name in held):
        return None
    worded = _WORDING.search(agreement)  # the base's own agreement knows its words best
    line = " ".join(worded[1].split()) if worded else terms.notice
    return NOTICE, f"{line}\n".encode(), f"{NOTICE} was written, as licence {license} asks."


def _agreement(terms: Terms, license: str | None) -> tuple[str, bytes, str]:
    """Write the Apache License, or where to find the agreement that the base does not hold."""
    if terms.title.startswith("Apache"):
        return (
            "LICENSE",
            APACHE.read_bytes(),
            f"LICENSE, the text of the {terms.title}, was written, since the base has no copy.",
        )
    lacks = f"No copy of the {license} agreement lies here, since the base has none."
    if terms.title == "MIT License":
        lacks = (
            "The base has no copy of its MIT License, so the copyright notice that must go along "
            "is missing here; ask the base's authors for it."
        )
    lines = [f"This model is under the {terms.title}. {lacks}", f"Its text: {terms.address}"]
    if terms.policy:
        lines.append(f"The policy of use that is part of it: {terms.policy}")
    lines += [terms.limits] if terms.limits else []
    return WHEREABOUTS, ("\n".join(lines) + "\n").encode(), f"{lacks} Its text: {terms.address}."


def _changes(changes: Sequence[str]) -> tuple[str, bytes, str]:
    """Write the notice that files were changed, and which."""
    lines = [
        "The files of this model are not those of its base. hubq changed them:",
        "- the weights (*.safetensors and their index) were quantized or packed in another format;",
        "- config.json describes that format;",
        *(f"- {change}" for change in changes),
        "README.md, the model card, tells how. All other files of the base are copied unchanged.",
    ]
    return CHANGES, ("\n".join(lines) + "\n").encode(), f"{CHANGES} names the files that changed."


def _policy_fact(terms: Terms, held: Sequence[str]) -> str | None:
    """Say where a policy that is part of the licence has no copy in the base."""
    if terms.policy is None or any(name.lower().startswith("use_policy") for name in held):
        return None
    return f"The base holds no copy of its policy of use; read it at {terms.policy}."
