"""A published card in a browser: pictures for light and dark pages, nothing wider than a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, HfApi
from made_run import REPO, full_report, made_siblings

from hubq.stages.card.card import contents

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: make browser")
PHONE = 390  # pixels wide
SHOWN = "[...document.images].map(each => [new URL(each.currentSrc).pathname, each.naturalWidth])"


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def address(hub: FaultyHub, api: HfApi) -> str:
    """Publish a card with every picture, and return the address of its page."""
    report = full_report()
    files = contents(report, made_siblings(report))
    api.create_repo(REPO)
    api.create_commit(
        REPO,
        [CommitOperationAdd(path, content) for path, content in files.items()],
        commit_message="A card",
    )
    return f"{hub.endpoint}/{REPO}"


@pytest.mark.parametrize(("scheme", "suffix"), [("light", ""), ("dark", "-dark")])
def test_a_phone_shows_each_picture_as_the_page_is_and_never_scrolls_sideways(
    browser: "Browser", address: str, scheme: Literal["light", "dark"], suffix: str
) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 844}, color_scheme=scheme)
    page.goto(address)
    page.wait_for_load_state("networkidle")

    shown = page.evaluate(SHOWN)
    width = page.evaluate("document.documentElement.scrollWidth")
    page.close()

    folder = Path(f"/{REPO}/resolve/main/images")
    assert shown == [
        [str(folder / f"{name}{suffix}.png"), 780] for name in ("recovery", "bits", "errors")
    ]
    assert width == PHONE
