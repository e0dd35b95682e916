"""What the hub answers when it will not do something, in the Hub's own words and headers.

Which names of accounts, repos, refs and files it refuses stands here too.
"""

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from hubq.records.vocabulary import is_gits_own, is_revision, mistake_in_name

RESERVED = frozenset(
    {"api", "assets", "collections", "datasets", "docs", "join", "lfs", "login", "models", "new"}
    | {"organizations", "settings", "spaces", "users", "xet"}
)
# Control characters, what Windows takes for a slash, halves of characters.
_BAD_PATH = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
MAX_DEPTH = 100  # folders in one another


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure
    """A request that is answered with an error status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.body = dict(body or {})
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """Render the refusal as the Hub does: JSON, X-Error-Code and X-Error-Message."""
        headers = {"X-Error-Message": _one_line(self.message), **self.headers}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return JSONResponse({"error": self.message, **self.body}, self.status, headers)


def bad_request(message: str) -> Refusal:
    """Build the refusal of a request that makes no sense."""
    return Refusal(400, message)


def bad_credentials() -> Refusal:
    """Build the refusal of a token that the hub doesn't know or that has expired."""
    return Refusal(401, "Invalid credentials in Authorization header")


def sign_in_first() -> Refusal:
    """Build the refusal of an anonymous request to something that needs a user."""
    return Refusal(401, "Invalid username or password.")


def forbidden(message: str) -> Refusal:
    """Build the refusal of a known user who lacks the right."""
    return Refusal(403, message)


def repository_not_found(*, anonymous: bool) -> Refusal:
    """Build the one answer for a missing repo and for one that the visitor may not know of."""
    if anonymous:
        return Refusal(401, "Invalid username or password.", code="RepoNotFound")
    return Refusal(404, "Repository not found", code="RepoNotFound")


def revision_not_found(revision: str) -> Refusal:
    """Build the refusal of a branch, tag or commit that doesn't exist."""
    return Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def entry_not_found(message: str = "Entry not found", commit: str | None = None) -> Refusal:
    """Build the refusal of a path that the commit doesn't hold."""
    headers = {"X-Repo-Commit": commit} if commit else {}
    return Refusal(404, message, code="EntryNotFound", headers=headers)


def gated(repo_id: str, *, anonymous: bool) -> Refusal:
    """Build the refusal of a download from a gated repo."""
    if anonymous:
        message = f"Access to {repo_id} is restricted. You must be authenticated to access it."
        return Refusal(401, message, code="GatedRepo")
    message = f"Access to {repo_id} is restricted and you are not in the authorized list."
    return Refusal(403, message, code="GatedRepo")


def _one_line(message: str) -> str:
    """Make a message fit for a header: one line of printable Latin-1."""
    line = " ".join(message.split()).encode("latin-1", "replace").decode("latin-1")
    return "".join(letter if letter.isprintable() else "?" for letter in line)


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
