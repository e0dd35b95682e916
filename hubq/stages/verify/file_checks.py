"""Checks of the files: those that were attested, measured and signed, and no others."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from hubq.client.pull import is_read
from hubq.errors import UserError
from hubq.records.parsing import read_yaml
from hubq.records.plan import Plan
from hubq.records.run_folder import IN_A_REPO, PLAN, SIGNATURE
from hubq.records.signature import read_signature
from hubq.stages.publish.attestation import RECIPE, UNATTESTED, statement
from hubq.stages.publish.signing import signer_of
from hubq.stages.verify.findings import BEFORE, NOT_OURS, Found, Status, judged
from hubq.stages.verify.gather import Subject
from hubq.stages.verify.signatures import verified_files


def attested_files(subject: Subject) -> Found:
    """Every file has the sha256 that the attestation lists; none is missing, none was added."""
    if subject.attestation is None:
        return BEFORE if subject.has_report else NOT_OURS
    held = {path for path in subject.files if path not in UNATTESTED}
    listed = subject.attestation.files
    how = "as they were read" if subject.read_whole else "large ones as the Hub lists them"
    return judged(list(_unlike(subject, held, listed)), f"{len(listed)} files, {how}")


def measured_files(subject: Subject) -> Found:
    """Every file that is loaded has the sha256 of what was measured; no such file was added."""
    if subject.report is None:
        return NOT_OURS
    measured = subject.report.files
    held = {path for path in subject.files if path in measured or is_read(path)}
    return judged(list(_unlike(subject, held, measured)), f"{len(measured)} files")


def _unlike(subject: Subject, held: set[str], listed: Mapping[str, str]) -> Iterator[str]:
    """Say of each file in which way it is not as listed."""
    for path in sorted(held | listed.keys()):
        if path not in listed:
            yield f"{path} was added"
        elif path not in subject.files:
            yield f"{path} is missing"
        elif subject.files[path].sha256 is None:
            yield f"{path} is too large to be hashed without --download"
        elif subject.files[path].sha256 != listed[path]:
            yield f"{path} was changed"


def signature(subject: Subject) -> Found:
    """Every file is signed, by the key or the identity that is trusted."""
    if SIGNATURE not in subject.places:
        return _unsigned(subject)
    said = read_signature(subject.places[SIGNATURE])
    signer = signer_of(said)
    name = f"{signer.how} {signer.name}"[:300] if signer else "nobody that can be named"
    if not subject.trust.named:
        if wrong := list(_unlike(subject, _signed(subject), said.files)):
            return judged(wrong, "")
        status: Status = "failed" if subject.trust.required else "unknown"
        reason = f"it says that it is by {name}: --key or --identity checks that"
        return Found(status, reason)
    files = verified_files(subject.places[SIGNATURE], subject.trust)
    return judged(list(_unlike(subject, _signed(subject), files)), f"{len(files)} files, by {name}")


def _signed(subject: Subject) -> set[str]:
    return {path for path in subject.files if path != SIGNATURE}


def _unsigned(subject: Subject) -> Found:
    """Say that there is no signature, and whether there should be one."""
    attestation = subject.attestation
    if attestation is not None and attestation.signer.how != "none":
        signer = attestation.signer
        return Found("failed", f"{SIGNATURE} is missing: {signer.how} {signer.name} was to sign")
    wanted = subject.trust.required or subject.trust.named
    status: Status = "failed" if wanted else "unknown"
    return Found(status, "not signed: nobody vouches for who made it")


def attestation(subject: Subject) -> Found:
    """The attestation says what the report, the recipe and the plan say: it is written again."""
    if subject.attestation is None:
        return BEFORE if subject.has_report else NOT_OURS
    if subject.report is None:
        return Found("failed", "there is an attestation, and no report that it could be of")
    found = subject.attestation
    made = statement(subject.report, found.files, found.signer)
    here, there = (each.model_dump(mode="json", by_alias=True) for each in (found, made))
    return judged(list(_parted(here["predicate"], there["predicate"])), "as its records say")


def _parted(here: Any, there: Any, place: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON values
    """Say where two JSON values differ."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in sorted(here.keys() | there.keys()):
            yield from _parted(here.get(key), there.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, pair in enumerate(zip(here, there, strict=True)):
            yield from _parted(*pair, f"{place}[{number}]")
    elif here != there:
        yield f"{place} says {here!s:.60}, and the records {there!s:.60}"


def records(subject: Subject) -> Found:
    """The plan and the recipe in the repo are those of the report."""
    if subject.report is None:
        return NOT_OURS
    planned = f"{IN_A_REPO}/{PLAN}"
    if lost := [path for path in (planned, RECIPE) if path not in subject.places]:
        return Found("failed", f"{lost[0]} is missing")
    wrong = []
    if Plan.load(subject.places[planned]) != subject.report.plan:
        wrong.append(f"{planned} is not the plan of the report")
    if not _is_within(_recipe(subject), subject.report.plan.recipe):
        wrong.append(f"{RECIPE} is not the recipe of the report")
    return judged(wrong, "plan and recipe are those of the report")


def _recipe(subject: Subject) -> object:
    try:
        return read_yaml(subject.places[RECIPE].read_text(encoding="utf-8", errors="replace"))
    except yaml.YAMLError as error:
        raise UserError(f"{RECIPE} is no recipe: {error!s:.200}") from error


def _is_within(part: object, whole: object) -> bool:
    """Tell whether all that a value says is said by another one: defaults may be left out."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and _is_within(each, whole[key]) for key, each in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(_is_within, part, whole))
    return part == whole
