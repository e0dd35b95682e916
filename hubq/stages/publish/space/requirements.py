"""The packages of a Space: what it needs and all that this needs, at the versions that were tested.

A Space installs its requirements.txt together with gradio[oauth,mcp], uvicorn, websockets and
spaces, in one call of pip: a pin that one of these excludes ends the build.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hubq.errors import UserError

# gradio's extra `mcp` ends at pydantic 2.12.5, so whichever of this range it takes is taken.
RANGES = {"pydantic": "pydantic>=2.11,<3", "pydantic-core": None}


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
            f"{name} is not installed here, so what a Space needs can't be told.\n"
            "Install it with the rest: pip install 'hubq[space,bitsandbytes]'"
        ) from error
    found = [Requirement(line) for line in lines]
    return tuple(
        each for each in found if each.marker is None or each.marker.evaluate({"extra": extra})
    )
