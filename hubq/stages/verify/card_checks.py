"""Checks of the card: it says what the report says."""

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from hubq import __version__
from hubq.errors import UserError
from hubq.records.report import Report
from hubq.records.run_folder import IN_A_REPO, SIBLINGS, VERSIONS
from hubq.records.versions import Versions
from hubq.sources.base_card import front_matter
from hubq.stages.card.card import CARD, render
from hubq.stages.card.results import FOLDER, eval_results
from hubq.stages.compare.reports import Siblings
from hubq.stages.verify.findings import NOT_OURS, Found, judged
from hubq.stages.verify.gather import Subject

NUMBER = re.compile(r"(?<![\d,])\d[\d,]*+(?:\.\d++)?")  # each begins in one place: no text is slow
INDEX = "model-index"
WORDS = ("name", "protocol")  # its keys that are for people


def card(subject: Subject) -> Found:
    """The card is the one that the report makes, to the letter.

    That is so of the version that made the release. Of another it is only known whether all
    numbers are the report's: each version may choose its words anew.
    """
    if subject.report is None:
        return NOT_OURS
    here, there = _written(subject), _rendered(subject, subject.report)
    if here == there:
        return Found("ok", "it is written again from the report, to the letter")
    known = {*_figures(there), *_figures(subject.report.model_dump_json())}
    lines = enumerate(here.splitlines(), start=1)
    strange = [
        f"line {number} says {each}, which is not in the report"
        for number, line in lines
        for each in _figures(line)
        if each not in known
    ]
    if strange:
        return judged(strange, "")
    place, line, made = next(_differences(here, there))
    said = f"line {place} says {line[:80]!r}, and this hubq writes {made[:80]!r}"
    if _is_of_this_version(subject):
        return Found("failed", said)
    return Found("unknown", f"{said}: another version or another hand wrote it")


def _is_of_this_version(subject: Subject) -> bool:
    """Tell whether a release is attested, and of the version of hubq that is at work."""
    found = subject.attestation
    return found is not None and found.predicate.run_details.builder.version == {
        "hubq": __version__
    }


def _figures(text: str) -> Iterator[str]:
    """Yield the numbers that were measured or counted: with a decimal point, or with a comma."""
    for found in NUMBER.findall(text):
        figure = found.rstrip(",")
        if "." in figure or "," in figure:
            yield figure


def _differences(here: str, there: str) -> Iterator[tuple[int, str, str]]:
    """Yield the lines that differ, with their number; a card that ends early has empty ones."""
    pairs = zip_longest(here.split("\n"), there.split("\n"), fillvalue="")
    for number, (line, made) in enumerate(pairs, start=1):
        if line != made:
            yield number, line, made
    yield 1, "", ""  # in line endings alone


def card_metadata(subject: Subject) -> Found:
    """The numbers in the card's metadata, and those for leaderboards, are the report's."""
    if subject.report is None:
        return NOT_OURS
    here = front_matter(_written(subject).encode(), CARD)[0]
    there = front_matter(_rendered(subject, subject.report).encode(), CARD)[0]
    wrong = []
    if _numbers(here.get(INDEX)) != _numbers(there.get(INDEX)):
        wrong.append(f"the {INDEX} of {CARD} is not that of the report")
    keys = ("base_model", "license", "license_name", "quantized_by")
    wrong += [
        f"{CARD} says {key}: {here.get(key)!s:.60}, and the report {there.get(key)!s:.60}"
        for key in keys
        if here.get(key) != there.get(key)
    ]
    wrong += _entries(subject, eval_results(subject.report))
    return judged(wrong, f"{INDEX}, base, license and results for leaderboards")


def _entries(subject: Subject, made: dict[str, bytes]) -> Iterator[str]:
    """Say which results for leaderboards are not the report's."""
    held = {path for path in subject.files if path.startswith(f"{FOLDER}/")}
    for path in sorted(held | made.keys()):
        if path not in made:
            yield f"{path} is of nothing that was measured"
        elif path not in subject.places or subject.places[path].read_bytes() != made[path]:
            yield f"{path} is not what the report makes of it"


def _numbers(value: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Leave out what is there for people, whose words each version may choose anew."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items() if key not in WORDS}
    return [_numbers(each) for each in value] if isinstance(value, list) else value


def _written(subject: Subject) -> str:
    """Return the card in the repo."""
    if CARD not in subject.places:
        raise UserError(f"there is no {CARD}")
    return subject.places[CARD].read_bytes().decode(errors="replace")


def _rendered(subject: Subject, report: Report) -> str:
    """Write the card that the report, the siblings and the versions in the repo make."""
    from jinja2 import TemplateError

    place = subject.places.get(f"{IN_A_REPO}/{SIBLINGS}")
    siblings = Siblings() if place is None else Siblings.load(place)
    past = subject.places.get(f"{IN_A_REPO}/{VERSIONS}")
    versions = None if past is None else Versions.load(past)
    signer = None if subject.attestation is None else subject.attestation.signer
    try:
        return render(report, siblings, signer, versions)
    except TemplateError as error:
        raise UserError(f"no card can be written of its report: {error!s:.200}") from error
