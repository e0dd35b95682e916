"""The tab with the numbers, in a real browser, as a visitor meets it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from made_models import full_report
from served_space import served
from watched_page import watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MODELS = {  # name -> nominal bits, stored bits, KL divergence
    "acme/Llama-GPTQ-4bit": (4.0, 4.3, 0.031),
    "acme/Llama-AWQ-4bit": (4.0, 4.31, 0.042),
    "acme/Llama-QuIP-2bit": (2.0, 2.0, 0.4),
}
GPTQ, AWQ, QUIP = MODELS
HOSTILE = "<b>b<img src=x>[a](javascript:1)"  # the name of a folder


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the Space over three reports and a broken one."""
    folder = tmp_path_factory.mktemp("cards")
    for name, (bits, stored, divergence) in MODELS.items():
        card = folder / name.rpartition("/")[2]
        card.mkdir()
        full_report(name, bits, stored, divergence).save(card / "report.json")
        (card / "README.md").write_text(f"---\nlicense: mit\n---\n# Card of {name}\n")
    (folder / "newer").mkdir()
    (folder / "newer" / "report.json").write_text('{"version": 9}')
    (folder / HOSTILE).mkdir()
    (folder / HOSTILE / "report.json").write_text('{"version": 9}')
    with served({"HUBQ_SPACE_MODELS": str(folder)}) as place:
        yield place


@pytest.fixture
def page(address: str, browser: "Browser") -> "Iterator[Page]":
    """Open the page; nothing may appear on its console."""
    with browser.new_context() as context, watched(context) as opened:
        opened.goto(address)
        show_numbers(opened)
        yield opened


def show_numbers(page: "Page") -> None:
    page.get_by_role("tab", name="Numbers").click()
    page.wait_for_selector("#pareto svg")


def compared(page: "Page") -> list[str]:
    """Name the models whose points say that they are compared."""
    marks = page.locator('#pareto [aria-label*="being compared"]')
    names = marks.evaluate_all("marks => marks.map((mark) => mark.dataset.model)")
    return sorted(map(str, names))


def point(page: "Page", name: str) -> str:
    return f'#pareto [data-model="{name}"]'


def test_a_visitor_reads_which_4_bit_model_is_closest_and_why(page: "Page") -> None:
    said = page.locator("#closest").inner_text()

    assert f"{GPTQ} is closest to meta-llama/Meta-Llama-3-8B" in said
    assert f"{AWQ} follows with 0.04200" in said
    assert "beyond the noise" in said


def test_a_pressed_point_is_compared_and_its_recovery_shown(page: "Page") -> None:
    page.click(point(page, AWQ))
    page.wait_for_selector('#pareto [aria-label*="being compared"]')

    assert compared(page) == [AWQ]
    shown = page.locator("#recovery svg").get_attribute("aria-label") or ""
    assert shown.endswith(f"for {AWQ}.")


def test_points_can_be_pressed_by_keyboard_and_released(page: "Page") -> None:
    from playwright.sync_api import expect

    ringed = page.locator('#pareto [aria-label*="being compared"]')

    page.focus(point(page, QUIP))
    page.keyboard.press("Enter")
    expect(ringed).to_have_count(1)
    page.focus(point(page, QUIP))
    page.keyboard.press("Space")
    expect(ringed).to_have_count(0)


def test_the_table_sorts_by_numbers_and_shows_them_spelled(page: "Page") -> None:
    heading = page.locator("#numbers th").filter(has_text="KL divergence").last
    heading.scroll_into_view_if_needed()
    heading.hover()
    heading.locator(".cell-menu-button").click()
    page.get_by_role("menuitem").filter(has_text="Sort desc").click()
    page.wait_for_function(
        """([names, first]) => [...document.querySelectorAll('#numbers [role="row"]')]
            .flatMap(row => names.filter(name => row.innerText.includes(name)))[0] === first""",
        arg=[list(MODELS), QUIP],
    )

    rows = page.locator('#numbers [role="row"]').all_inner_texts()
    named = [name for row in rows for name in MODELS if name in row]
    assert list(dict.fromkeys(named)) == [QUIP, AWQ, GPTQ]
    assert "98.4 % (97.2 to 99.6)" in "".join(rows)


def test_a_pressed_row_shows_its_card(page: "Page") -> None:
    page.locator("#numbers").get_by_text(QUIP).last.click()
    page.wait_for_selector("#card h1")

    assert page.locator("#card").inner_text().strip() == f"Card of {QUIP}"
    assert "license: llama3" in page.locator("#links").inner_text()
    page.get_by_text("Its recipe").click()
    page.locator("#recipe").get_by_text("method:").first.wait_for(timeout=5000)


def test_a_deep_link_chooses_models_and_says_what_it_can_not(
    address: str, browser: "Browser"
) -> None:
    page = browser.new_page()
    page.goto(f"{address}?model={GPTQ}&model=acme/gone&seed=none")
    show_numbers(page)
    page.wait_for_selector('#pareto [aria-label*="being compared"]')

    assert compared(page) == [GPTQ]
    text = page.inner_text("body")
    assert "acme/gone is not here (any more)." in text
    assert "This link sets seed to 'none'" in text
    page.close()


def test_a_phone_shows_it_without_scrolling_sideways(address: str, browser: "Browser") -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(address)
    show_numbers(page)

    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()


def test_what_could_not_be_read_is_said(page: "Page") -> None:
    page.get_by_text("What could not be shown").click()

    page.get_by_text("its report is of version 9").first.wait_for(timeout=5000)
    assert page.get_by_text(HOSTILE).count() == 1
