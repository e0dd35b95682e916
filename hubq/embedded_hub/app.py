"""The hub as an ASGI application."""

import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.api import (
    clone,
    collections,
    commits,
    discussions,
    files,
    identity,
    large_files,
    pages,
    references,
    repos,
    spaces,
    xet,
)
from hubq.embedded_hub.hub import LOOPBACK, Hub
from hubq.embedded_hub.refusals import Refusal

# The routes of pages match any two segments, so they come last; collections, which are no kind of
# repo, come before the routes of repos.
SUBJECTS = (
    identity,
    collections,
    spaces,
    repos,
    files,
    commits,
    references,
    discussions,
    large_files,
    clone,
    xet,
    pages,
)


def create_app(root: Path, *, hosts: Sequence[str] = LOOPBACK) -> Starlette:
    """Make the application that serves the hub in a folder.

    Requests that name another host than `hosts` are refused: else a page in a browser could
    reach a hub on loopback by letting its own name point there.
    """
    app = Starlette(
        routes=[route for subject in SUBJECTS for route in subject.ROUTES],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={
            Refusal: _refuse,
            404: _unknown,
            OSError: _full_disk,
            sqlite3.OperationalError: _full_disk,
        },
    )
    app.state.hub = Hub.open(root)
    app.state.hub.database.keep_open()
    return app


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


def _full_disk(request: Request, error: Exception) -> Response:
    """Say that there is no space left: what was begun is undone, and asking again may help."""
    # SQLite says it in words, and shutil in a list of what could not be copied.
    signs = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "disk is full")
    if not any(sign in str(error) for sign in signs):
        raise error
    return Refusal(507, "The hub's disk is full. Make room there, then try again").response()


def _unknown(request: Request, error: Exception) -> Response:
    """Answer in JSON, which the client parses before it looks at the status."""
    return JSONResponse({"error": "Sorry, we can't find the page you are looking for."}, 404)
