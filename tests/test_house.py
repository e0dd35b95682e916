"""The floors of the house: what imports what, held by contracts that bite."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = (sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()")
UPWARD = "Each floor imports only those below it"
STAGES = "Each stage imports only those before it in the pipeline"
CIRCLE = "No files of one folder import one another in a circle"
CARRIED = "What repos carry imports nothing of hubq"
APART = "The embedded Hub imports errors and the Hub's vocabulary alone"
IN_A_FUNCTION = "\n\ndef late() -> None:\n    from {} import {}\n\n    _ = {}\n"
FOR_TYPES = "\n\nif TYPE_CHECKING:\n    from {} import {}\n\n    _: {}\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of hubq and of the contracts."""
    ignored = shutil.ignore_patterns("__pycache__", "app", "recipes")
    shutil.copytree(ROOT / "hubq", tmp_path / "hubq", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken(folder: Path) -> list[str]:
    """Name the contracts that a copy breaks."""
    done = subprocess.run(
        [*LINT, "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert any(line.endswith((" KEPT", " BROKEN")) for line in lines), done.stdout + done.stderr
    found = [line.removesuffix(" BROKEN") for line in lines if line.endswith(" BROKEN")]
    assert bool(found) == bool(done.returncode)
    return found


def test_the_contracts_are_kept(copy: Path) -> None:
    assert broken(copy) == []


@pytest.mark.parametrize(
    ("file", "imported", "contract"),
    [
        ("records/plan.py", ("hubq.stages.plan.plan", "plan"), UPWARD),
        ("client/pull.py", ("hubq.stages.publish.release", "assemble"), UPWARD),
        ("stages/plan/plan.py", ("hubq.stages.quantize.quantize", "quantize"), STAGES),
        ("sources/source.py", ("hubq.sources.find", "find"), CIRCLE),
        ("runtime/headers.py", ("hubq.errors", "UserError"), CARRIED),
        ("embedded_hub/hub.py", ("hubq.client.client", "Client"), APART),
    ],
)
@pytest.mark.parametrize("how", [IN_A_FUNCTION, FOR_TYPES], ids=["in a function", "for types"])
def test_a_forbidden_import_breaks_its_contract(
    copy: Path, file: str, imported: tuple[str, str], contract: str, how: str
) -> None:
    with (copy / "hubq" / file).open("a") as source:
        source.write(how.format(*imported, imported[1]))

    assert contract in broken(copy)


def test_the_top_level_has_at_most_twelve_rooms() -> None:
    folders = {path.parent.name for path in (ROOT / "hubq").glob("*/__init__.py")}
    files = {path.name for path in (ROOT / "hubq").glob("*.py")} - {"__init__.py", "__main__.py"}

    assert len(folders | files) <= 12
