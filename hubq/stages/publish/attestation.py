"""The attestation of a release: a function of its report and its files, and nothing else.

So whoever has the repo can write it again and compare, and publishing the same run twice makes the
same bytes. What is the maker's own stays out: names of hosts, users and folders.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hubq.client.repo_files import LocalFile
from hubq.machine.files import write_atomically
from hubq.records.adapted_report import AdaptedReport, load_report
from hubq.records.attestation import (
    UNSIGNED,
    BuildDefinition,
    Builder,
    External,
    Internal,
    Machine,
    Metadata,
    Provenance,
    Resource,
    RunDetails,
    Signer,
    Statement,
    subject,
)
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.records.run_folder import ATTESTATION_IN_A_REPO, IN_A_REPO, REPORT_IN_A_REPO, SIGNATURE
from hubq.records.vocabulary import PUBLIC_HUB
from hubq.stages.card.results import COMMIT, DIGEST, data
from hubq.stages.publish.signing import Signing

RECIPE = f"{IN_A_REPO}/recipe.yaml"
UNATTESTED = frozenset({ATTESTATION_IN_A_REPO, SIGNATURE})  # no file can list itself
THREADS = re.compile(r"^(?P<name>.*), (?P<count>[0-9]{1,6}) threads?$")
PINNED = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})")
LONGEST = 4096  # characters of a title
GIT, SHA = "gitCommit", "sha256"


def attested(files: Mapping[str, LocalFile], run: Path, signing: Signing) -> dict[str, LocalFile]:
    """Return the files of a release with its attestation and, where there is a key, its signature.

    It comes last: every other file is in it. Both are saved in the run folder, and the signature is
    made anew only where what it signs changed.
    """
    report = load_report(files[REPORT_IN_A_REPO].path)
    hashes = {path: file.sha256 for path, file in files.items()}
    place = run / ATTESTATION_IN_A_REPO
    write_atomically(place, statement(report, hashes, signing.signer).written())
    all_files = {**files, ATTESTATION_IN_A_REPO: LocalFile(place)}
    if signed := signing.signed(all_files, run):
        all_files[SIGNATURE] = signed
    return all_files


def statement(report: Report, files: Mapping[str, str], signer: Signer = UNSIGNED) -> Statement:
    """Write down what a release was made of; `files` are path -> sha256, its report among them.

    The report is that of the repo, in which the recipe names no folder of the maker's machine.
    """
    recipe = files.get(RECIPE)
    named = Resource(name=RECIPE, digest={SHA: recipe} if recipe else {})
    return Statement(
        subject=subject({path: each for path, each in files.items() if path not in UNATTESTED}),
        predicate=Provenance(
            build_definition=BuildDefinition(
                external_parameters=External(recipe=named, repo=report.plan.repo),
                internal_parameters=_internal(report),
                resolved_dependencies=tuple(materials(report)),
            ),
            run_details=RunDetails(
                builder=Builder(version={"hubq": _made_by(report)}),
                metadata=Metadata(signer=signer),
            ),
        ),
    )


def _made_by(report: Report) -> str:
    """Return the version of hubq that quantized; reports of before may not know it."""
    return report.checkpoint.versions.get("hubq", "not recorded")


def _internal(report: Report) -> Internal:
    """Say on which machines the work was done, and in which numbers."""
    made, plan = report.checkpoint, report.plan
    adapted = report.adaptation if isinstance(report, AdaptedReport) else None
    return Internal(
        weights_dtype=plan.dtype,
        made=_machine(made.device, made.compute_dtype, made.versions),
        adapted=adapted and _machine(adapted.device, adapted.compute_dtype, adapted.versions),
        measured=_machine(report.device, report.dtype, report.versions),
        seed=report.seed,
    )


def _machine(device: str, dtype: str | None, versions: Mapping[str, str]) -> Machine:
    """Take a device's title apart: a processor's ends with its threads."""
    found = THREADS.match(device)
    return Machine(
        device=found["name"] if found else device,
        threads=int(found["count"]) if found else None,
        dtype=dtype,
        versions=dict(sorted(versions.items())),
    )


def materials(report: Report) -> Iterator[Resource]:
    """Yield what a release was made of, and measured on, each once: base, data sets, wheels."""
    seen = set()
    for each in _materials(report):
        key = each.model_dump_json()
        if key not in seen:
            seen.add(key)
            yield each


def _materials(report: Report) -> Iterator[Resource]:
    plan = report.plan
    yield base(plan)
    yield from _wheels(plan.recipe)
    if text := report.checkpoint.calibration_text:
        yield _text(*_split(text))
    if isinstance(report, AdaptedReport):
        yield from _of_an_adapter(report)
    yield from (_text(each.dataset, each.version) for each in report.measurements)
    if report.fidelity is not None:
        yield _text(report.fidelity.dataset, report.fidelity.version)


def base(plan: Plan) -> Resource:
    """Name the weights that were quantized: a repo at its commit, or files by their sha256."""
    if found := PINNED.fullmatch(plan.source):
        return repo(found["repo"], found["commit"])
    kind, _, digest = plan.source.partition(":")
    name = plan.base_model or "base"
    return Resource(name=name, digest={SHA: digest} if kind == SHA else {})


def repo(name: str, commit: str, kind: str = "") -> Resource:
    """Name a repo of the Hub at a commit; `kind` is empty for models, else such as datasets/."""
    return Resource(name=name, uri=f"git+{PUBLIC_HUB}/{kind}{name}", digest={GIT: commit})


def _wheels(value: Any) -> Iterator[Resource]:  # noqa: ANN401 - any JSON value
    """Yield the wheels that a recipe reads, wherever it names them."""
    if isinstance(value, Mapping):
        wheel, digest = value.get("wheel"), value.get(SHA)
        if isinstance(wheel, str) and isinstance(digest, str):
            name, _, version = wheel.partition("==")
            yield Resource(name=wheel, uri=f"pkg:pypi/{name}@{version}", digest={SHA: digest})
    nested = value.values() if isinstance(value, Mapping) else value
    if isinstance(nested, str) or not hasattr(nested, "__iter__"):
        return
    for each in nested:
        yield from _wheels(each)


def _of_an_adapter(report: AdaptedReport) -> Iterator[Resource]:
    """Yield what was learnt from, and the quantized model that the adapter is loaded on."""
    made = report.adaptation
    if made.calibration_text:
        yield _text(*_split(made.calibration_text))
    if made.taught is not None:
        yield _text(made.taught.repo or made.taught.title, made.taught.version)
    planned = report.plan.adaptation
    if planned is not None and (found := PINNED.fullmatch(planned.quantized)):
        yield repo(found["repo"], found["commit"])


def _split(text: str) -> tuple[str, str]:
    """Take a calibration text's title and version apart."""
    short = len(text) <= LONGEST  # beyond that the search would take long, and it is no title
    found = (DIGEST.search(text) or COMMIT.search(text)) if short else None
    if found is None:
        return text, ""
    return text[: found.start()].rstrip(", ") or found[0], text[found.start() :]


def _text(dataset: str, version: str) -> Resource:
    """Name a data set by what pins it in a report."""
    found = data(dataset, version)
    if found.revision is None:
        return Resource(name=dataset)
    if PINNED.match(version):
        return repo(found.kind, found.revision, "datasets/")
    kind, _, digest = found.revision.rpartition(":")
    key = SHA if kind else GIT
    return Resource(name=dataset, digest={key: digest} if len(digest) in (40, 64) else {})
