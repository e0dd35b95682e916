"""What things may be called on a Hub, and which of these names are safe to be paths here.

The rules are the Hub's own (its client's `validate_repo_id`, git's check-ref-format), told before
anything is asked; those of paths are what git's `fsck` and file systems that fold case demand.
"""

import re
from typing import NamedTuple

from hubq.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
# git-check-ref-format: what a ref may not hold, wherever it stands.
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(^|/)\.|\.lock(/|$)|^-|^@$")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
# Code points that HFS+ leaves out when it compares names.
_IGNORED = re.compile(r"[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
LONGEST_PATH, LONGEST_SEGMENT, LONGEST_REF = 1024, 255, 240  # bytes, bytes, characters


class Address(NamedTuple):
    """A repo, and the revision of it that is meant; None: the head of main."""

    repo: str
    revision: str | None


def is_name(name: str) -> bool:
    """Tell whether the Hub takes this for an account or, without its account, for a repo."""
    parts_with_meaning = "--" in name or ".." in name or name.endswith((".git", ".ipynb"))
    return _NAME.fullmatch(name) is not None and not parts_with_meaning


def is_repo(name: str) -> bool:
    """Tell whether this can be the name of a repo: org/name, or a name alone as a few old ones."""
    return name.count("/") <= 1 and all(map(is_name, name.split("/")))


def is_revision(name: str) -> bool:
    """Tell whether this can be a branch, a tag or a commit; others could lead out of a folder."""
    return 0 < len(name) <= LONGEST_REF and _BAD_REF.search(name) is None


def is_path(path: str) -> bool:
    """Tell whether a file of a repo may be called so, here and wherever the repo is taken to."""
    segments = path.split("/")
    return (
        _UNPRINTABLE.search(path) is None
        and "\\" not in path
        and len(path.encode()) <= LONGEST_PATH
        and not any(each in ("", ".", "..") or _DRIVE.match(each) for each in segments)
        and not any(_is_git_folder(each) for each in segments)
        and all(len(each.encode()) <= LONGEST_SEGMENT for each in segments)
    )


def _is_git_folder(segment: str) -> bool:
    """Recognize .git as NTFS and HFS+ do: a folder of that name can hold commands."""
    plain = _IGNORED.sub("", segment).partition(":")[0].rstrip(". ").lower()
    return plain in (".git", "git~1")


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
