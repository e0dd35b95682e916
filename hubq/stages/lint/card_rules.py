"""Rules about the card and the license: what the Hub refuses, and what is owed to others."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hubq.records.card_rules import validate
from hubq.sources.base_card import license_of, with_front_matter
from hubq.sources.license_terms import (
    CHANGES,
    WHEREABOUTS,
    agreement_in,
    is_license_file,
    owed,
    terms_of,
)
from hubq.stages.lint.findings import Found
from hubq.stages.lint.release import CARD, Release

SEARCHED = ("pipeline_tag", "library_name", "license")
# What only who made the release can write: where the agreement is, and what was changed.
OF_THE_MAKER = (WHEREABOUTS, CHANGES)


def refused_metadata(release: Release) -> Iterator[Found]:
    """Metadata of the card that the Hub refuses, so that nothing can be pushed."""
    if (content := release.content(CARD)) is not None:
        for mistake in validate(content.decode("utf-8-sig", "replace"), "model").errors:
            yield Found(CARD, mistake[:500], "correct the YAML at the top of the card")


def doubted_metadata(release: Release) -> Iterator[Found]:
    """Metadata of the card that the Hub warns of."""
    if (content := release.content(CARD)) is not None:
        for mistake in validate(content.decode("utf-8-sig", "replace"), "model").warnings:
            yield Found(CARD, mistake[:500], "correct the YAML at the top of the card")


def no_card(release: Release) -> Iterator[Found]:
    """No card: nobody learns what this is, how it was made and what may be done with it."""
    if not release.is_planned and CARD not in release.files:
        yield Found(CARD, "there is no card", "write one")


def incomplete_metadata(release: Release) -> Iterator[Found]:
    """A card without the keys by which the Hub finds a model and its base."""
    if release.content(CARD) is None:
        return
    metadata, text = release.card
    made = _derived(release, metadata)
    base = ("base_model",) if release.quantization or release.is_adapter else ()
    if lacking := [key for key in (*SEARCHED, *base, *made) if key not in metadata]:
        yield Found(
            CARD,
            f"the card does not say {', '.join(dict.fromkeys(lacking))}",
            "add what is so at the top of the card",
            {CARD: with_front_matter({**metadata, **made}, text).encode()} if made else None,
        )


def _derived(release: Release, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys that follow from config.json."""
    made = {}
    if (release.architecture or "").endswith("ForCausalLM") and release.tensors:
        made = {"pipeline_tag": "text-generation", "library_name": "transformers"}
    if release.quantization and "base_model" in metadata:
        made["base_model_relation"] = "quantized"
    return {key: each for key, each in made.items() if key not in metadata}


def license_duties(release: Release) -> Iterator[Found]:
    """What the license asks of who passes a changed model on, and isn't done."""
    if release.content(CARD) is None:
        return
    metadata, text = release.card
    license = license_of(metadata)
    terms = terms_of(license)
    if terms is None:
        return
    if terms.built_with and terms.built_with not in text:
        yield Found(CARD, f'the card does not display "{terms.built_with}"', "write it there")
    name = release.repo.rpartition("/")[2] if release.repo else None
    if terms.start and name and not _begins(name, terms.start):
        yield Found(
            name, f'the name must begin with "{terms.start}" ({terms.title})', "rename the repo"
        )
    owing = _owed(release, license)
    if owing:
        told = f"{license} asks for {' and '.join(owing)} beside the weights"
        texts = {name: text for name, text in owing.items() if name not in OF_THE_MAKER}
        yield Found(CARD, told, "add what is missing", texts or None)


def _begins(name: str, start: str) -> bool:
    """Tell whether a name begins as it must; a llama is one with a hyphen or without."""
    plain = re.sub(r"[-_ ]", "", name.lower()).removeprefix("meta")
    return plain.startswith(re.sub(r"[-_ ]", "", start.lower()))


def _owed(release: Release, license: str | None) -> dict[str, bytes]:
    """Return the files that a license asks for and that the release doesn't hold."""
    held = sorted(path for path in release.files if is_license_file(path))
    agreement = agreement_in(held)
    text = (release.content(agreement) or b"").decode("utf-8", "replace") if agreement else ""
    found = owed(license, held, text).files
    if not release.quantization:
        found.pop(CHANGES, None)  # nothing says that files were changed
    return {name: each for name, each in found.items() if name not in release.files}
