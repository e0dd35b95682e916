"""What a Space consists of: the app, hubq in a folder beside it, its packages and its README.

The builder of Spaces installs requirements.txt before it copies any other file, so a wheel in the
repo could not be named there, and hubq may not be on the package index; as a folder beside app.py
it is imported wherever the app is.

A Space installs its requirements.txt together with gradio[oauth,mcp], uvicorn, websockets and
spaces, in one call of pip: a pin that one of these excludes ends the build.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hubq.errors import UserError
from hubq.sources.base_card import front_matter, with_front_matter
from hubq.sources.license_terms import APACHE
from hubq.stages.publish.space.showcase import Showcase

PACKAGE = Path(__file__).parents[3]
APP = Path(__file__).with_name("app")  # in a checkout a link to space/
REWRITTEN = ("README.md", "requirements.txt")  # as they are to be in each Space
KEPT_BACK = ("constraints.txt",)  # what requirements.txt is made from
# Parts of hubq that no Space runs: the command line, the embedded Hub, this.
UNUSED = ("cli/", "embedded_hub/", "stages/recipe/recipes/", "stages/publish/space/")
# gradio's extra `mcp` ends at pydantic 2.12.5, so whichever of this range it takes is taken.
RANGES = {"pydantic": "pydantic>=2.11,<3", "pydantic-core": None}
ZERO = "zero-a10g"
INDEX = "index.html"
OF_AN_APP = frozenset({"sdk_version", "python_version", "suggested_hardware"})
STATIC = (
    "The numbers, charts and cards of an organization's quantized models, written by hubq from the "
    "reports that were published with them. Nothing runs here: `hubq space run` compares answers."
)
# The only Python of ZeroGPU that hubq runs on; elsewhere it is the one of the tests.
PYTHON = {ZERO: "3.12.12"}


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


def read_pins(constraints: Path) -> dict[str, str]:
    """Read the versions that were tested, by canonical name, each as `name==version`."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    pins = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(Requirement(pin).name): pin for pin in pins}


def wanted(requirements: Path) -> list[Requirement]:
    """Read the packages that the app imports."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def pinned(requirements: Path, constraints: Path, index: str | None = None) -> str:
    """Return a requirements.txt with every package that it will bring; `index` is one more to ask.

    Raises UserError where a package is not installed here, so that nobody knows what it brings.
    """
    pins = read_pins(constraints)
    names = sorted(_with_all_they_need(wanted(requirements)))
    lines = [RANGES.get(name, pins[name]) for name in names if name in pins]
    head = [f"--extra-index-url {index}"] if index else []
    return "\n".join([*head, *(line for line in lines if line)]) + "\n"


def version_of(name: str, pins: Mapping[str, str]) -> str:
    """Return the tested version of a package."""
    return pins[canonicalize_name(name)].partition("==")[2]


def _with_all_they_need(wanted: list[Requirement]) -> set[str]:
    """Return the canonical names of packages and of what they require, and so on."""
    found: set[tuple[str, str]] = set()  # name and extra
    ahead = [(canonicalize_name(each.name), extra) for each in wanted for extra in _extras(each)]
    while ahead:
        name, extra = ahead.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for each in _needed(name, extra):
            ahead += [(canonicalize_name(each.name), inner) for inner in _extras(each)]
    return {name for name, _ in found}


def _extras(requirement: Requirement) -> set[str]:
    return {"", *requirement.extras}


@cache
def _needed(name: str, extra: str) -> tuple[Requirement, ...]:
    """Return what a package requires here, with an extra or without."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError as error:
        raise UserError(
            f"{name} is not installed here, so the Space's requirements can't be listed.\n"
            "Install it with the rest: pip install 'hubq[space,bitsandbytes]'"
        ) from error
    found = [Requirement(line) for line in lines]
    return tuple(
        each for each in found if each.marker is None or each.marker.evaluate({"extra": extra})
    )


def readme(template: Path, showcase: Showcase, hardware: str, gradio: str) -> str:
    """Return the README of the app with what is particular to one Space."""
    values, text = front_matter(template.read_bytes(), template)
    values |= {
        "sdk_version": gradio,
        "python_version": PYTHON.get(hardware, values["python_version"]),
        "suggested_hardware": hardware,
        "models": showcase.models or None,
        "preload_from_hub": showcase.preloads or None,
    }
    return with_front_matter(_known(values), text)


def static_readme(template: Path, models: Sequence[str]) -> str:
    """Return the README of a static page, with the app's title and description."""
    values, _ = front_matter(template.read_bytes(), template)
    kept = {key: each for key, each in values.items() if key not in OF_AN_APP}
    kept |= {"sdk": "static", "app_file": INDEX, "models": list(models) or None}
    return with_front_matter(_known(kept), f"\n{STATIC}\n")


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
