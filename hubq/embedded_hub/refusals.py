"""What the hub answers when it will not do something, in the Hub's own words and headers."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse


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
