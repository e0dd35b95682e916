"""What a Space consists of: the app's own files, and hubq itself in a folder beside them.

The builder of Spaces installs requirements.txt before it copies any other file, so a wheel in the
repo could not be named there, and hubq may not be on the package index; as a folder beside app.py
it is imported wherever the app is.
"""

from collections.abc import Iterator
from pathlib import Path

from hubq.errors import UserError

PACKAGE = Path(__file__).parents[3]
APP = Path(__file__).with_name("app")  # in a checkout a link to space/
REWRITTEN = ("README.md", "requirements.txt")  # as they are to be in each Space
# What requirements.txt is made from, and a picture for readers of the repository.
KEPT_BACK = ("constraints.txt", "screenshot.png")
# Parts of hubq that no Space runs: the command line, the embedded Hub, this.
UNUSED = ("cli", "embedded_hub", "recipes", "space")


def app_folder() -> Path:
    """Return the folder with app.py, in a checkout or an installed package."""
    if not (APP / "app.py").is_file():
        raise UserError(
            f"{APP} has no app.py: this copy of hubq is incomplete. Install hubq anew, or check it "
            "out on a file system with symbolic links"
        )
    return APP


def app_files() -> Iterator[tuple[str, Path]]:
    """Yield the files of the app that go along as they are, by their path in the Space."""
    for path in sorted(app_folder().iterdir()):
        if path.is_file() and path.name not in (*REWRITTEN, *KEPT_BACK):
            yield path.name, path


def hubq_files() -> Iterator[tuple[str, Path]]:
    """Yield the files of hubq that a Space imports, by their path in the Space."""
    for path in sorted(PACKAGE.rglob("*")):
        parts = path.relative_to(PACKAGE).parts
        if path.is_file() and parts[0] not in UNUSED and "__pycache__" not in parts:
            yield f"hubq/{path.relative_to(PACKAGE).as_posix()}", path
