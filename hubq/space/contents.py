"""What a Space consists of: the app's own files, and hubq itself in a folder beside them.

The builder of Spaces installs requirements.txt before it copies any other file, so a wheel in the
repo could not be named there, and hubq may not be on the package index; as a folder beside app.py
it is imported wherever the app is.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hubq.errors import UserError
from hubq.licence_files import APACHE

PACKAGE = Path(__file__).parents[1]
APP = Path(__file__).with_name("app")  # in a checkout a link to space/
REWRITTEN = ("README.md", "requirements.txt")  # as they are to be in each Space
KEPT_BACK = ("constraints.txt",)  # what requirements.txt is made from
# Parts of hubq that no Space runs: the command line, the embedded Hub, this.
UNUSED = ("cli", "hub", "recipes", "space")


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
    yield "LICENSE", APACHE
    yield from _files(app_folder(), without=(*REWRITTEN, *KEPT_BACK))


def hubq_files() -> Iterator[tuple[str, Path]]:
    """Yield the files of hubq that a Space imports, by their path in the Space."""
    for name, path in _files(PACKAGE, without=UNUSED):
        yield f"hubq/{name}", path


def _files(folder: Path, without: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files of a folder by their path in it, without some of its entries."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in without and "__pycache__" not in parts:
            yield "/".join(parts), path
