"""A real release of few bytes, with its attestation: of what `tests/fixtures/made_before` holds."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from hubq.client.repo_files import LocalFile
from hubq.machine.progress import SILENT
from hubq.records.report import Report
from hubq.records.run_folder import PLAN, REPORT
from hubq.stages.publish.attestation import attested
from hubq.stages.publish.release import assemble
from hubq.stages.publish.signing import Signing

BEFORE = Path(__file__).parent / "fixtures" / "made_before" / "run"
REPO = "acme/tiny-GPTQ-4bit"
UNSIGNED = Signing()


def measured_run(run: Path, **plan: object) -> Report:
    """Fill a run folder up to its report, with these values in its plan; return the report."""
    shutil.copytree(BEFORE, run)
    for name in ("publication.json", "README.md"):
        (run / name).unlink()
    report = Report.load(run / REPORT)
    planned = report.plan.model_copy(update=plan)
    report = report.model_copy(update={"plan": planned})
    planned.save(run / PLAN)
    report.save(run / REPORT)
    return report


def released(report: Report, run: Path, signing: Signing = UNSIGNED) -> Mapping[str, LocalFile]:
    """Return the files that publishing a run would push."""
    return attested(assemble(report, run, SILENT, signing.signer), run, signing)


def laid_out(files: Mapping[str, LocalFile], folder: Path) -> Path:
    """Lay the files of a release out as a download does."""
    for path, file in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.path, folder / path)
    return folder


def replaced(path: Path, old: str, new: str) -> None:
    """Put another text in the place of one that a file holds."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} holds no {old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def changed(path: Path, *keys: str | int, value: object) -> None:
    """Change a value of a file of JSON."""
    whole = json.loads(path.read_bytes())
    place = whole
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(whole))
