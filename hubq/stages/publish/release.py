"""What a release consists of: the run's files, proven to be those that were measured."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from hubq.client.error_messages import SECRETS
from hubq.client.repo_files import LocalFile
from hubq.errors import UserError
from hubq.machine.files import read_object, write_atomically
from hubq.machine.progress import Progress
from hubq.records.adapted_report import AdaptedReport, load_report
from hubq.records.attestation import UNSIGNED, Signer
from hubq.records.lock import requirements
from hubq.records.report import Report
from hubq.records.run_folder import (
    ADAPTER_CONFIG,
    IN_A_REPO,
    LOCK_IN_A_REPO,
    MODEL,
    PLAN,
    QUANTIZATION,
    REPORT,
    REPORT_IN_A_REPO,
    SIBLINGS,
)
from hubq.sources.license_terms import is_license_file
from hubq.stages.adapt.adapter_files import renamed
from hubq.stages.card.card import write
from hubq.stages.card.results import eval_results
from hubq.stages.compare.reports import Siblings, siblings_in
from hubq.stages.plan.adapted_run import belongs_to
from hubq.stages.publish.versions import versioned
from hubq.stages.recipe.text import presentable, recipe_text

# Keys of other services whose shape is unmistakable.
OTHER_SECRETS = re.compile(
    r"\bghp_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{60,}|\bAKIA[0-9A-Z]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
)
WEIGHTS = (".safetensors", ".gguf")


def assemble(
    report: Report, run: Path, progress: Progress, signer: Signer = UNSIGNED
) -> dict[str, LocalFile]:
    """Return the files of the release by their path in the repo; write those made of the report.

    `signer` is who will sign them, which the card says. Raises UserError where a file of the model
    is not the one that was measured.
    """
    _refuse_other_report(report, run)
    files = measured_files(report, run / report.folder, progress)
    public = report
    if isinstance(report, AdaptedReport) and report.is_adapter:
        files = {**files, **_of_an_adapter(report, run)}
        listed = {path: file.sha256 for path, file in files.items()}
        adaptation = report.adaptation.model_copy(update={"files": listed})
        public = report.model_copy(update={"adaptation": adaptation})
    siblings = siblings_in(run)
    own = {name: run / name for name in write(report, siblings, run, signer)}
    written = papers(public, siblings) | eval_results(report) | versioned(run)
    for name, content in written.items():
        own[name] = run / name
        write_atomically(own[name], content)
    clash = sorted(own.keys() & files.keys())
    assert not clash, f"the model's folder holds {clash}, which publishing would overwrite"
    return files | {path: LocalFile(file) for path, file in own.items()}


def _of_an_adapter(report: AdaptedReport, run: Path) -> dict[str, LocalFile]:
    """Return what an adapter's repo holds beside the weights, by path; write what is made of it.

    The config names its base at a commit, the license's files are those of the quantized model,
    and an adapter of a 16-bit base says how that was quantized while it was made.
    """
    base, _, revision = (belongs_to(report.plan) or "").partition("@")
    config = (run / report.folder / ADAPTER_CONFIG).read_bytes()
    made = {ADAPTER_CONFIG: renamed(config, base, revision or None)}
    quantized = read_object(run / MODEL / "config.json").get("quantization_config")
    if quantized and report.plan.recipe["publish"].get("adapter_of") == "base":
        made[QUANTIZATION] = (json.dumps(quantized, indent=2) + "\n").encode()
    for name, content in made.items():
        write_atomically(run / name, content)
    licenses = {
        path: LocalFile(run / MODEL / path)
        for path in sorted(report.checkpoint.files)
        if is_license_file(path)
    }
    for path, file in licenses.items():
        _refuse_missing(run / MODEL, path)
        _refuse_changed(file, report.checkpoint.files[path])
    return licenses | {name: LocalFile(run / name) for name in made}


def papers(report: Report, siblings: Siblings) -> dict[str, bytes]:
    """Return the records that go along, by their path in the repo.

    They are the run's own but for the folders of files on the maker's machine: those are nobody
    else's business.
    """
    recipe = presentable(report.plan.recipe)
    plan = report.plan.model_copy(update={"recipe": recipe})
    public = report.model_copy(update={"plan": plan})
    making = report.adaptation if isinstance(report, AdaptedReport) else report.checkpoint
    lock = making.lock
    locked = {} if lock is None else {LOCK_IN_A_REPO: requirements(lock, LOCK_IN_A_REPO).encode()}
    return locked | {
        REPORT_IN_A_REPO: (public.model_dump_json(indent=2) + "\n").encode(),
        f"{IN_A_REPO}/{PLAN}": (plan.model_dump_json(indent=2) + "\n").encode(),
        f"{IN_A_REPO}/recipe.yaml": recipe_text(plan).encode(),
        f"{IN_A_REPO}/{SIBLINGS}": (siblings.model_dump_json(indent=2) + "\n").encode(),
    }


def _refuse_other_report(report: Report, run: Path) -> None:
    """Refuse a run whose records do not belong together."""
    if load_report(run / REPORT) != report:
        raise UserError(
            f"{run / 'report.json'} is not the report to publish: it was replaced. Publish again"
        )
    if type(report.plan).load(run / PLAN) != report.plan:
        raise UserError(
            f"{run / 'report.json'} measured a different plan from {run / 'plan.json'}.\n"
            "Delete it and run again: measurements of the same files are remembered"
        )


def measured_files(report: Report, model: Path, progress: Progress) -> dict[str, LocalFile]:
    """Hash the model's files and return them; refuse missing, changed and additional ones."""
    measured = report.files
    _refuse_additional(model, measured)
    files = {path: LocalFile(model / path) for path in sorted(measured)}
    for path, file in files.items():
        _refuse_missing(model, path)
        if not file.path.resolve().is_relative_to(model.resolve()):
            raise UserError(f"{file.path} leads out of {model}; nothing outside it is published")
    with progress.task("Checking files", sum(file.size for file in files.values())) as advance:
        for path, file in files.items():
            _refuse_changed(file, measured[path])
            advance(file.size)
    return files


def _refuse_changed(file: LocalFile, measured: str) -> None:
    if file.sha256 != measured:
        raise UserError(
            f"{file.path} changed since it was made, so it is not what was measured.\n"
            "Quantize and evaluate again (--fresh); nothing was uploaded"
        )


def _refuse_missing(model: Path, path: str) -> None:
    if not (model / path).is_file():
        raise UserError(
            f"{model / path} is missing, though the checkpoint lists it.\n"
            "Quantize again (--fresh); nothing was uploaded"
        )


def _refuse_additional(model: Path, measured: Mapping[str, str]) -> None:
    """Refuse files that nobody measured: they might change how the model loads."""
    found = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    if additional := sorted(found - measured.keys()):
        raise UserError(
            f"{model} holds files that do not belong to the checkpoint: {', '.join(additional)}.\n"
            "Move them elsewhere; nothing was uploaded"
        )


def refuse_secrets(files: Mapping[str, LocalFile], token: str | None) -> None:
    """Refuse to publish a text that holds a token or a private key."""
    for path, file in files.items():
        if path.endswith(WEIGHTS):
            continue
        text = file.path.read_bytes().decode(errors="replace")
        for number, line in enumerate(text.split("\n"), start=1):
            if SECRETS.search(line) or OTHER_SECRETS.search(line) or (token and token in line):
                raise UserError(
                    f"{file.path}, line {number}, holds what looks like a secret.\n"
                    "Take it out (and revoke it if it is one); nothing was uploaded"
                )
