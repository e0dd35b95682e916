"""Which names of accounts, repos, refs and files the hub accepts. Everything else is refused."""

import re

from hubq.embedded_hub.refusals import bad_request
from hubq.hub_names import is_gits_own, is_revision, mistake_in_name

RESERVED = frozenset(
    {"api", "assets", "collections", "datasets", "docs", "join", "lfs", "login", "models", "new"}
    | {"organizations", "settings", "spaces", "users", "xet"}
)
# Control characters, what Windows takes for a slash, halves of characters.
_BAD_PATH = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
MAX_DEPTH = 100  # folders in one another


def check_account_name(name: str) -> str:
    """Return the name of a user or an organization, or refuse it."""
    if name.lower() in RESERVED:
        raise bad_request(f"The name {name!r} is reserved")
    return check_repo_name(name)


def check_repo_name(name: str) -> str:
    """Return the name of a repo, or refuse it by the Hub's rules."""
    if mistake := mistake_in_name(name):
        raise bad_request(f"Invalid name {name!r}: {mistake}")
    return name


def check_branch_name(name: str) -> str:
    """Return the name of a branch or tag, or refuse what git would refuse."""
    if not is_revision(name) or re.fullmatch(r"[0-9a-f]{40}", name):
        raise bad_request(f"Invalid reference name {name!r}")
    return name


def check_path(path: str) -> str:
    """Return the path of a file in a repo, or refuse one that could leave it."""
    segments = path.split("/")
    wrong = (
        not path
        or len(path.encode(errors="replace")) > 1024
        or len(segments) > MAX_DEPTH
        or _BAD_PATH.search(path) is not None
        or any(segment in ("", ".", "..") for segment in segments)
        or any(len(segment.encode(errors="replace")) > 255 for segment in segments)
    )
    if wrong:
        raise bad_request(f"Invalid path in repo: {path!r}")
    if any(is_gits_own(segment) for segment in segments):
        raise bad_request(f"Invalid path in repo: {path!r}. Some systems take it for git's own")
    return path
