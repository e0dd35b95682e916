"""Which room of the Space imports which: down only, and nowhere in a circle."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from served_space import ROOT

# Imports in functions and for types count too.
CONTRACTS = """
[importlinter]
root_packages =
    page
    serving
    releases
    votes

[importlinter:contract:rooms]
name = each room imports only those below it
type = layers
layers =
    page
    serving
    releases | votes

[importlinter:contract:circles]
name = no import runs in a circle
type = acyclic_siblings
ancestors =
    page
    serving
    releases
    votes
"""
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"


def linted(space: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / ".importlinter").write_text(CONTRACTS)
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(space), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_room_imports_only_those_below_it_and_nothing_in_a_circle(tmp_path: Path) -> None:
    done = linted(ROOT / "space", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "forbidden", "told"),
    [
        ("votes/ballots.py", "from releases.models import Problem", "votes.ballots -> releases"),
        (
            "releases/models.py",
            "def up() -> None:\n    from serving import messages",
            "releases is not allowed",
        ),
        (
            "serving/messages.py",
            "def round() -> None:\n    from serving import generation",
            ".messages -> .generation",
        ),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, forbidden: str, told: str) -> None:
    space = tmp_path / "space"
    shutil.copytree(ROOT / "space", space, ignore=shutil.ignore_patterns("__pycache__"))
    with (space / file).open("a") as module:
        module.write(f"\n\n{forbidden}\n")

    done = linted(space, tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    assert told in done.stdout
