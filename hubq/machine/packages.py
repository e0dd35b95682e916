"""Which packages a program runs on: what it requires, and what these require, as installed."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution


@cache
def installed(name: str) -> dict[str, str]:
    """Return the version of a package and of all that it requires, by their normal names.

    Of optional parts there are those that a requirement asks for. A package of a file or of
    sources is left out where it is the one that is named: no index has just that version.
    """
    found = dict(sorted(set(_required(name, (), set()))))
    if is_from_an_index(distribution(name)):
        return found
    return {each: version for each, version in found.items() if each != name}


def is_from_an_index(package: Distribution) -> bool:
    """Tell whether a package came from a package index, and not from a file or an address."""
    return package.read_text("direct_url.json") is None


def _required(
    name: str, extras: tuple[str, ...], seen: set[tuple[str, tuple[str, ...]]]
) -> Iterator[tuple[str, str]]:
    """Yield a package's name and version, and those of what it requires here."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    key = (str(canonicalize_name(name)), extras)
    if key in seen:
        return
    seen.add(key)
    try:
        package = distribution(key[0])
    except PackageNotFoundError:  # what isn't installed has no part in what runs
        return
    yield key[0], package.version
    for line in package.requires or ():
        needed = Requirement(line)
        marker = needed.marker
        if marker is None or any(marker.evaluate({"extra": each}) for each in ("", *extras)):
            yield from _required(needed.name, tuple(sorted(needed.extras)), seen)
