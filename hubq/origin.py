"""Where hubq comes from, by its own package: nobody is sent to a name that a stranger may own."""

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

LABELS = ("homepage", "repository", "source")  # of [project.urls] in pyproject.toml, best first
WITHOUT_ADDRESS = "hubq (the tool that made this repo; not on PyPI under that name)"


@cache
def project_url() -> str | None:
    """Return the address of the project that the installed package names; None: it names none."""
    try:
        named = metadata("hubq").get_all("Project-URL") or []
    except PackageNotFoundError:  # run from its sources
        return None
    pairs = (entry.split(",", 1) for entry in named)
    found = {label.strip().lower(): address.strip() for label, address in pairs}
    return next((found[label] for label in LABELS if label in found), None)


def hubq_in_words() -> str:
    """Name hubq so that a reader of a card can find it, in markdown."""
    url = project_url()
    return WITHOUT_ADDRESS if url is None else f"[hubq]({url}), the tool that made this repo"
