"""A page of a browser on whose console nothing may appear."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

BAD = ("error", "warning", "Error")


@contextmanager
def watched(context: "BrowserContext") -> "Iterator[Page]":
    """Open an empty page; in the end its console has to be empty of complaints."""
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    yield page
    complaints = [line for line in said if line.startswith(BAD)]
    assert not complaints, complaints
