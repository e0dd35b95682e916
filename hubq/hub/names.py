"""Which names of accounts, repos, refs and files the hub accepts. Everything else is refused."""

import re

from hubq.hub.refusals import bad_request

RESERVED = frozenset(
    {"api", "assets", "collections", "datasets", "docs", "join", "lfs", "login", "models", "new"}
    | {"organizations", "settings", "spaces", "users", "xet"}
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
# Control characters, what Windows takes for a slash, halves of characters.
_BAD_PATH = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
MAX_DEPTH = 100  # folders in one another
# A submodule would be somebody else's files, fetched from where the repo says.
GITS_OWN = (".git", ".gitmodules", ".gitattributes", ".gitignore", ".mailmap")  # last 3: so spelled
_IGNORED_BY_HFS = re.compile(r"[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
# How the short names begin that NTFS gives to these: by their letters, or by a hash of the name.
_SHORT = ("git", "gitmod", "gitatt", "gitign", "mailma")
_SHORT_HASHES = ("gi7eba", "gi7d29", "gi250a", "maba30")
# git-check-ref-format: what a ref may not hold, wherever it stands.
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(^|/)\.|\.lock(/|$)|^-|^@$")


def check_account_name(name: str) -> str:
    """Return the name of a user or an organization, or refuse it."""
    if name.lower() in RESERVED:
        raise bad_request(f"The name {name!r} is reserved")
    return check_repo_name(name)


def check_repo_name(name: str) -> str:
    """Return the name of a repo, or refuse it by the Hub's rules."""
    wrong = (
        not _NAME.fullmatch(name)
        or "--" in name
        or ".." in name
        or name.endswith((".git", ".ipynb", "-", "."))
    )
    if wrong:
        raise bad_request(
            f"Invalid name {name!r}: use letters, digits, '-', '_' and '.', at most 96 of them; "
            "'--' and '..' are forbidden, '-' and '.' cannot end it, nor can '.git'"
        )
    return name


def check_branch_name(name: str) -> str:
    """Return the name of a branch or tag, or refuse what git would refuse."""
    if not is_ref_name(name) or re.fullmatch(r"[0-9a-f]{40}", name):
        raise bad_request(f"Invalid reference name {name!r}")
    return name


def is_ref_name(name: str) -> bool:
    """Tell whether git would take a name for a ref; others could lead out of its folder."""
    return 0 < len(name.encode(errors="replace")) <= 240 and _BAD_REF.search(name) is None


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


def is_gits_own(segment: str) -> bool:
    """Recognize names that git keeps for itself, in each spelling that some file system takes.

    As git's fsck has it: HFS+ ignores some characters and the case, NTFS the case, dots and spaces
    at the end and what follows a colon, and it knows each name by a short one too.
    """
    if segment in GITS_OWN[2:]:
        return False
    name = _IGNORED_BY_HFS.sub("", segment).lower().partition(":")[0].rstrip(". ")
    start, tilde, number = name.partition("~")
    is_short = start in _SHORT or any(each.startswith(start) for each in _SHORT_HASHES)
    return name in GITS_OWN or (tilde == "~" and number.isdecimal() and is_short)
