"""What things may be called on a Hub, and which of these names are safe to be paths here.

The rules are the Hub's own (its client's `validate_repo_id`, git's check-ref-format), told before
anything is asked; those of paths are what git's `fsck` and file systems that fold case demand.
"""

import re
from typing import NamedTuple

from hubq.errors import UserError

LONGEST_NAME = 96  # characters
FORBIDDEN_ENDS = ("-", ".", ".git", ".ipynb")
# git-check-ref-format: what a ref may not hold, wherever it stands.
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(^|/)\.|\.lock(/|$)|^-|^@$")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
# A submodule would be somebody else's files, fetched from where the repo says.
GITS_OWN = (".git", ".gitmodules", ".gitattributes", ".gitignore", ".mailmap")  # last 3: so spelled
_IGNORED_BY_HFS = re.compile(r"[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
# How the short names begin that NTFS gives to these: by their letters, or by a hash of the name.
_SHORT = ("git", "gitmod", "gitatt", "gitign", "mailma")
_SHORT_HASHES = ("gi7eba", "gi7d29", "gi250a", "maba30")
LONGEST_PATH, LONGEST_SEGMENT, LONGEST_REF = 1024, 255, 240  # bytes


class Address(NamedTuple):
    """A repo, and the revision of it that is meant; None: the head of main."""

    repo: str
    revision: str | None


def mistake_in_name(name: str) -> str | None:
    """Say why the Hub would refuse a name of a repo, a user or an organization; None: it takes it.

    The rules are those of huggingface_hub's validate_repo_id and of the Hub's own answers.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        return (
            "it may only consist of a-z, A-Z, 0-9, '-', '_' and '.', and begin with no '-' or '.'"
        )
    if len(name) > LONGEST_NAME:
        return f"it may have {LONGEST_NAME} characters, not {len(name)}"
    if "--" in name or ".." in name:
        return "it may not hold '--' or '..'"
    if name.endswith(FORBIDDEN_ENDS):
        return "it may not end with '-', '.', '.git' or '.ipynb'"
    return None


def mistake_in_id(name: str) -> str | None:
    """Say why something is no org/name of the Hub, or None; an address is told its id."""
    address = re.fullmatch(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^?#]*)", name)
    if address:
        return f"is an address; write {'/'.join(address[1].split('/')[:2])}"
    org, slash, repo = name.partition("/")
    if not slash or "/" in repo:
        return "must be org/name, as the Hub calls it"
    for part in (org, repo):
        if mistake := mistake_in_name(part):
            return f"{part!r} is no name on the Hub: {mistake}"
    return None


def mistake_in_reference(written: str) -> str | None:
    """Say why something is neither org/name nor org/name@revision, or None."""
    name, at, revision = written.partition("@")
    mistake = mistake_in_id(name)
    if mistake is None and at and not re.fullmatch(r"\w[\w./-]*", revision, re.ASCII):
        return f"{revision!r} is no revision"
    return mistake


def is_name(name: str) -> bool:
    """Tell whether the Hub takes this for an account or, without its account, for a repo."""
    return mistake_in_name(name) is None


def is_repo(name: str) -> bool:
    """Tell whether this can be the name of a repo: org/name, or a name alone as a few old ones."""
    return name.count("/") <= 1 and all(map(is_name, name.split("/")))


def is_revision(name: str) -> bool:
    """Tell whether this can be a branch, a tag or a commit; others could lead out of a folder."""
    return 0 < len(name.encode(errors="replace")) <= LONGEST_REF and _BAD_REF.search(name) is None


def is_path(path: str) -> bool:
    """Tell whether a file of a repo may be called so, here and wherever the repo is taken to."""
    segments = path.split("/")
    return (
        _UNPRINTABLE.search(path) is None
        and "\\" not in path
        and len(path.encode()) <= LONGEST_PATH
        and not any(each in ("", ".", "..") or _DRIVE.match(each) for each in segments)
        and not any(is_gits_own(each) for each in segments)
        and all(len(each.encode()) <= LONGEST_SEGMENT for each in segments)
    )


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


def address(text: str) -> Address:
    """Read org/name or org/name@revision; raise UserError for what can't be either."""
    repo, at, revision = text.partition("@")
    if not is_repo(repo):
        raise UserError(
            f"{text!r} is no name of a repo: write org/name or org/name@revision, of letters, "
            "digits, '-', '_' and '.', without '--' or '..', not ending with '-', '.' or '.git'"
        )
    if at and not is_revision(revision):
        raise UserError(
            f"{text!r} names no revision of {repo}: after the @ comes a branch, a tag or a commit; "
            "without it main is meant"
        )
    return Address(repo, revision if at else None)


def require_account(name: str) -> str:
    """Return the name of a user or an organization; raise UserError for what can't be one."""
    if not is_name(name):
        raise UserError(
            f"{name!r} is no name of an organization: it has letters, digits, '-', '_' and '.' "
            "only, no '--' or '..', and ends with none of '-', '.' and '.git'"
        )
    return name
