"""Which names of accounts, repos, refs and files the hub accepts. Everything else is refused."""

import re

from hubq.hub.refusals import bad_request
from hubq.naming import mistake_in_name

RESERVED = frozenset(
    {"api", "assets", "collections", "datasets", "docs", "join", "lfs", "login", "models", "new"}
    | {"organizations", "settings", "spaces", "users", "xet"}
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# git-check-ref-format: what a ref may not hold, wherever it stands.
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(^|/)\.|\.lock(/|$)|^-|^@$")


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
    if not is_ref_name(name) or re.fullmatch(r"[0-9a-f]{40}", name):
        raise bad_request(f"Invalid reference name {name!r}")
    return name


def is_ref_name(name: str) -> bool:
    """Tell whether git would take a name for a ref; others could lead out of its folder."""
    return 0 < len(name) <= 240 and _BAD_REF.search(name) is None


def check_path(path: str) -> str:
    """Return the path of a file in a repo, or refuse one that could leave it."""
    segments = path.split("/")
    wrong = (
        not path
        or len(path.encode()) > 1024
        or _CONTROL.search(path) is not None
        or "\\" in path
        or any(segment in ("", ".", "..") for segment in segments)
        or any(_is_git_folder(segment) for segment in segments)
    )
    if wrong:
        raise bad_request(f"Invalid path in repo: {path!r}")
    return path


def _is_git_folder(segment: str) -> bool:
    """Recognize .git as case-folding and as 8.3 file systems would."""
    return segment.rstrip(". ").lower() in (".git", "git~1")
