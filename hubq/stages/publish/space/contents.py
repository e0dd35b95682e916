"""What a Space consists of: the app's own files, and hubq itself in a folder beside them.

The builder of Spaces installs requirements.txt before it copies any other file, so a wheel in the
repo could not be named there, and hubq may not be on the package index; as a folder beside app.py
it is imported wherever the app is.
"""

from collections.abc import Iterator
from pathlib import Path

from hubq.errors import UserError
from hubq.sources.license_terms import APACHE

PACKAGE = Path(__file__).parents[3]
APP = Path(__file__).with_name("app")  # in a checkout a link to space/
REWRITTEN = ("README.md", "requirements.txt")  # as they are to be in each Space
KEPT_BACK = ("constraints.txt",)  # what requirements.txt is made from
# Parts of hubq that no Space runs: the command line, the embedded Hub, this.
UNUSED = ("cli/", "embedded_hub/", "stages/recipe/recipes/", "stages/publish/space/")


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


def _files(folder: Path, without: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yield the files of a folder by their path in it, without those that begin so."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(without) and "__pycache__" not in path.parts:
            yield name, path
