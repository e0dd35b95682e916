"""The Space in a real browser, as visitors meet it, with tiny models that answer."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from answering_models import BASE, FOUR, SEEING, THREE, write_family
from PIL import Image
from served_space import served
from slow_workers import halted, slowed, workers
from watched_page import watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

    Visit = Callable[..., Page]

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> **b**"
)
SHORT = "max_new_tokens=12"
LINK = f"?model={THREE}&model={FOUR}&prompt=What+is+a+llama%3F&{SHORT}&seed=3"
LONG = LINK.replace(SHORT, "max_new_tokens=400")
PATIENCE = 60_000  # milliseconds; a first answer waits for two processes to start
VISITORS = 8
# Keeps each place in the queue that the page ever shows: they go by too fast to be looked for.
NOTE_PLACES = r"""
window.places = [];
new MutationObserver(() => {
  const shown = document.querySelector('#answers')?.innerText ?? '';
  for (const [, place] of shown.matchAll(/in the queue: place (\d+)/gi)) places.push(place);
}).observe(document, {childList: true, subtree: true, characterData: true});
"""


@pytest.fixture
def visit(address: str, browser: "Browser") -> "Iterator[Visit]":
    """Give a function that opens a link; nothing may appear on a page's console."""
    with ExitStack() as stack:

        def opened(link: str, width: int = 1280, height: int = 720) -> "Page":
            size: ViewportSize = {"width": width, "height": height}
            context = stack.enter_context(browser.new_context(viewport=size))
            page = stack.enter_context(watched(context))
            page.set_default_timeout(PATIENCE)
            page.goto(link if link.startswith("http") else f"{address}{link}")
            page.wait_for_selector("#prompt textarea")
            page.get_by_text("Looking for the models").wait_for(state="detached")
            return page

        yield opened


@pytest.fixture
def page(visit: "Visit") -> "Page":
    """Open the page with short answers set."""
    return visit(f"?{SHORT}")


def choose(page: "Page", *names: str) -> None:
    page.get_by_label("Models to compare").click()
    for name in names:
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")


def ask(page: "Page", prompt: str) -> None:
    page.fill("#prompt textarea", prompt)
    page.click("#ask")


def answered(page: "Page", count: int = 2) -> list[str]:
    """Wait until all sides have their whole answers and the buttons are back; return what they say.

    Of one message a browser shows the buttons before the text as often as not: what is still to
    come is marked as busy, for screen readers too.
    """
    from playwright.sync_api import Error

    try:
        page.wait_for_function(
            # Only the last message offers to ask again: costs are shown before, and the other
            # button can be pressed still when a browser shows the first of them.
            "count => document.querySelectorAll('#answers dl').length >= count"
            " && !document.querySelector('#answers [aria-busy]')"
            " && ['#ask', '#again'].every(id => !document.querySelector(id).disabled)",
            arg=count,
        )
    except Error as error:
        raise AssertionError(f"no {count} answers came:\n{page.inner_text('body')}") from error
    return page.locator("#answers .hubq-side").all_inner_texts()


def regenerate(page: "Page") -> None:
    page.click("#again")
    page.wait_for_selector("#halt:not([disabled])")
    page.wait_for_selector("#halt[disabled]")


def blind(page: "Page", prompt: str) -> None:
    """Ask two models blindly."""
    page.get_by_role("tab", name="Vote blind").click()
    page.fill("#blind-prompt textarea", prompt)
    page.click("#blind-ask")


def assert_nothing_comes(page: "Page") -> None:
    page.wait_for_timeout(2000)  # in which a stream that went on would show itself

    assert page.locator("#answers .hubq-side").count() == 0
    assert page.locator("#ask").is_enabled()
    assert page.locator("#halt").is_disabled()


def test_two_models_answer_side_by_side_with_what_it_costs(page: "Page") -> None:
    choose(page, THREE, FOUR)

    ask(page, "What is a llama?")

    one, other = answered(page)
    assert (one.splitlines()[0], other.splitlines()[0]) == (THREE, FOUR)
    for said in (one, other):
        assert all(part in said for part in ("first token", "tokens/s", "memory", "GB"))


def test_a_picture_is_given_to_models_that_see(page: "Page", tmp_path: Path) -> None:
    Image.new("RGB", (50, 30), "red").save(tmp_path / "picture.png")
    (tmp_path / "notes.png").write_text("no picture")
    upload = page.get_by_label("Picture (optional)")
    choose(page, THREE)
    page.wait_for_timeout(500)  # in which the page would offer it
    offered_to_others = upload.count()
    page.locator("h1").first.click()
    choose(page, SEEING)

    upload.set_input_files(tmp_path / "notes.png")
    ask(page, "What is it?")
    page.get_by_text("The picture is no picture").first.wait_for()
    upload.set_input_files(tmp_path / "picture.png")
    page.click("#ask")
    page.locator("#answers").get_by_text("reads text alone: ask it without a picture").wait_for()
    seen = answered(page, count=1)[1]
    page.click("#link")
    page.locator("#said").get_by_text("A link does not contain the picture").wait_for()

    assert offered_to_others == 0
    assert "tokens/s" in seen
    assert "Where answers diverge is shown without a picture only" in page.inner_text("#why-not")


def test_a_screen_reader_is_told_what_happens(page: "Page") -> None:
    heard = page.locator("[aria-live=polite]").first
    choose(page, THREE, FOUR)

    ask(page, "")
    page.wait_for_selector("#said .hubq-notice")
    refused = heard.inner_text()
    ask(page, "What is a llama?")
    answered(page)

    assert "the prompt is empty" in refused
    assert heard.inner_text().startswith(f"{THREE}: ")
    levels = page.eval_on_selector_all("h1, #answers h2", "all => all.map(each => each.tagName)")
    assert levels == ["H1", "H2", "H2"]


def test_a_chat_goes_on_is_done_again_and_cleared(page: "Page") -> None:
    choose(page, THREE, FOUR)
    ask(page, "What is a llama?")
    answered(page)

    ask(page, "And an alpaca?")
    assert "And an alpaca?" in answered(page, 4)[0]
    page.click("#again")
    page.wait_for_selector("#halt[disabled]")
    assert answered(page, 4)[0].count("And an alpaca?") == 1
    page.click("#clear")

    page.wait_for_selector("#answers .hubq-side", state="detached")


def test_stop_keeps_what_was_said_and_clear_keeps_nothing(runs: Path, visit: "Visit") -> None:
    with slowed(runs):
        page = visit(LONG)
        page.wait_for_selector("#answers dl")
        page.click("#halt")
        # One side at least: the other can be stopped before its first token, and then has no costs.
        assert any("Stopped" in each for each in answered(page, 1))
        page.click("#again")
        page.wait_for_selector("#halt:not([disabled])")

        page.click("#clear")
        assert_nothing_comes(page)

    assert page.locator("#ask").is_enabled()
    ask(page, "What is a llama?")
    page.wait_for_selector("#answers dl")


def test_clear_ends_a_link_that_has_hardly_been_opened(runs: Path, visit: "Visit") -> None:
    with slowed(runs):
        page = visit(LONG)

        page.click("#clear")

        assert_nothing_comes(page)


def test_clear_ends_what_was_asked_for_in_the_same_moment(runs: Path, page: "Page") -> None:
    choose(page, THREE, FOUR)
    ask(page, "What is a llama?")
    answered(page)

    with slowed(runs):
        page.evaluate("for (const id of ['again', 'clear']) document.getElementById(id).click()")

        assert_nothing_comes(page)


def test_stopping_a_blind_comparison_leaves_the_other_and_opens_no_vote(
    runs: Path, visit: "Visit"
) -> None:
    with slowed(runs):
        page = visit(LONG)
        page.wait_for_selector("#answers dl")
        blind(page, "What is a llama?")
        page.wait_for_selector("#blind-halt:not([disabled])")

        page.click("#blind-halt")
        page.wait_for_selector("#blind-said .hubq-notice")

        assert "nothing to vote on" in page.inner_text("#blind-said")
        assert page.locator("#vote-Left").is_disabled()
        assert page.locator("#ask").is_disabled()  # the other goes on
    page.get_by_role("tab", name="Compare").click()
    page.click("#clear")


def test_a_reading_ends_with_stop_and_with_the_next_answers(
    tiny_model: "Callable[[str], Path]", runs: Path, visit: "Visit"
) -> None:
    page = visit("?max_new_tokens=60")
    choose(page, THREE, FOUR)
    ask(page, "What is a llama?")
    answered(page)
    page.click("#diverge")
    page.wait_for_function("document.querySelectorAll('#diverged .hubq-summary').length == 2")

    with halted(tiny_model("llama")), slowed(runs):  # the base reads nothing, the others answer
        regenerate(page)
        page.click("#diverge")
        page.click("#halt")
        page.get_by_text("Stopped").first.wait_for()
        regenerate(page)
        page.click("#diverge")
        page.wait_for_selector("#diverged .hubq-notice")
        regenerate(page)
    page.wait_for_timeout(1000)  # in which a reading that went on would show itself

    assert not page.locator("#diverged").is_visible()
    assert page.locator("#diverge").is_visible()
    assert page.locator("#halt").is_disabled()


def test_the_divergence_view_marks_shades_and_tells(page: "Page") -> None:
    choose(page, BASE, THREE)
    ask(page, "What is a llama?")
    answered(page)

    page.click("#diverge")
    page.wait_for_function("document.querySelectorAll('#diverged .hubq-summary').length == 2")

    assert page.locator("#diverged .hubq-divergence").count() == 1
    assert "the base" in (page.locator("#diverged .hubq-token").last.get_attribute("title") or "")
    page.get_by_label("KL divergence").click()
    page.wait_for_function("document.querySelector('#divergence').innerText.includes('nats')")


def test_sampled_answers_say_why_they_can_not_be_examined(visit: "Visit") -> None:
    page = visit(f"{LINK}&temperature=0.8")

    page.wait_for_selector("#why-not .hubq-notice")

    assert "set the temperature to 0" in page.locator("#why-not").inner_text()
    assert not page.locator("#diverge").is_visible()


def test_names_are_hidden_until_the_vote_which_the_leaderboard_counts(page: "Page") -> None:
    choose(page, THREE, FOUR)
    blind(page, "What is a llama?")
    page.wait_for_selector("#vote-Left:not([disabled])")
    before = page.locator("#blind-answers").inner_text()

    page.click("#vote-Left")
    page.wait_for_selector("#blind-said .hubq-notice")

    assert "The left answer" in before
    assert not any(name in before for name in (THREE, FOUR))
    assert "Your vote is counted. Left was acme/Tiny-Llama" in page.inner_text("#blind-said")
    assert sorted(page.locator("#leaderboard tbody th").all_inner_texts()) == [THREE, FOUR]
    assert page.locator("#vote-Left").is_disabled()


def test_a_deep_link_does_its_comparison_again(visit: "Visit") -> None:
    page = visit(LINK)
    first = answered(page)

    page.click("#link")
    page.wait_for_function("document.querySelector('#address textarea')?.value.startsWith('http')")
    again = answered(visit(page.input_value("#address textarea")))

    assert [said.split("first token")[0] for said in first] == [
        said.split("first token")[0] for said in again
    ]


def test_a_broken_link_says_what_is_wrong_and_starts_nothing(visit: "Visit") -> None:
    page = visit(f"{LINK}&model=acme/gone&temperature=hot")

    page.get_by_text("acme/gone is not here (any more).").wait_for()

    assert "This link sets temperature to 'hot'" in page.inner_text("body")
    assert page.locator("#answers .hubq-side").count() == 0


@pytest.mark.parametrize(
    "hostile",
    ["model=![x](//evil.example/a)", "model=https://evil.example", "temperature=<b>http://evil"],
)
def test_what_a_link_says_is_shown_as_text(visit: "Visit", hostile: str) -> None:
    page = visit(f"{LINK}&{hostile}&model=acme/www.evil.example")

    page.locator("#notes").get_by_text("acme/www.evil.example is not here").wait_for()

    assert page.locator("#notes .hubq-notice").count() == 2
    assert page.locator("#notes a, #notes img, #notes b").count() == 0


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("", "The prompt is empty"), ("x" * 100_000, "100,000 characters and at most 20,000")],
)
def test_prompts_that_can_not_be_are_refused_in_words(
    page: "Page", prompt: str, words: str
) -> None:
    choose(page, THREE, FOUR)

    ask(page, prompt)
    page.wait_for_selector("#said .hubq-notice")

    assert words.lower() in page.inner_text("#said").lower()


def test_hostile_text_stays_text(page: "Page") -> None:
    choose(page, THREE, FOUR)

    ask(page, HOSTILE)

    assert HOSTILE in answered(page)[0]
    assert page.title() == "Compare quantized models"
    assert page.locator("#answers script, #answers img, #answers b, #answers strong").count() == 0


def test_a_phone_shows_it_without_scrolling_sideways(visit: "Visit") -> None:
    page = visit(LINK, width=390, height=844)
    answered(page)

    boxes = [each.bounding_box() for each in page.locator("#answers .hubq-side").all()]

    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert boxes[0]
    assert boxes[1]
    assert boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"]


def test_it_can_be_used_by_keyboard(page: "Page") -> None:
    page.get_by_label("Models to compare").focus()
    for name in (THREE, FOUR):
        page.keyboard.type(name)
        page.keyboard.press("Enter")
    tab_to(page, "#prompt")
    page.keyboard.type("What is a llama?")

    page.keyboard.press("Shift+Enter")

    one, other = answered(page)
    assert (one.splitlines()[0], other.splitlines()[0]) == (THREE, FOUR)


def tab_to(page: "Page", selector: str) -> None:
    """Press Tab until the focus is inside."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("inside => !!document.activeElement.closest(inside)", selector):
            return
    raise AssertionError(f"Tab does not lead to {selector}")


def test_where_there_are_no_models_that_is_said(visit: "Visit", tmp_path: Path) -> None:
    with served({"HUBQ_SPACE_MODELS": str(tmp_path)}) as place:
        page = visit(place)

        ask(page, "What is a llama?")
        page.wait_for_selector("#said .hubq-notice")

        assert "There are no models here that could be compared." in page.inner_text("#notes")
        assert "has no report.json" in page.inner_text("#notes")
        assert "none are chosen" in page.inner_text("#said")
        page.close()  # before the Space is, or it would complain


def test_a_model_that_is_deleted_while_it_is_chosen_is_said_in_its_panel(
    visit: "Visit", tiny_model: "Callable[[str], Path]", tmp_path: Path
) -> None:
    write_family(tmp_path, tiny_model("llama"))
    with served({"HUBQ_SPACE_MODELS": str(tmp_path)}) as place:
        page = visit(f"{place}?{SHORT}")
        choose(page, THREE, FOUR)
        shutil.rmtree(tmp_path / "Tiny-Llama-3bit")

        ask(page, "What is a llama?")

        gone, _ = answered(page, 1)
        assert "is gone since this list was made" in gone
        page.close()  # before the Space is, or it would complain


def test_eight_visitors_at_once_see_their_place_in_the_queue_and_get_the_same_answers(
    address: str, browser: "Browser"
) -> None:
    with ExitStack() as stack:
        contexts = [stack.enter_context(browser.new_context()) for _ in range(VISITORS)]
        pages = [stack.enter_context(watched(context)) for context in contexts]
        for page in pages:
            page.set_default_timeout(2 * PATIENCE)
            page.add_init_script(NOTE_PLACES)

        for page in pages:
            page.goto(f"{address}{LINK.replace(SHORT, 'max_new_tokens=200')}", wait_until="commit")
        said = [answered(page) for page in pages]

        places = {int(place) for page in pages for place in page.evaluate("places")}
    assert places, "nobody was told of a place in the queue"
    assert max(places) >= 2
    answers = {tuple(side.split("first token")[0] for side in sides) for sides in said}
    assert len(answers) == 1, answers


def test_a_model_that_dies_leaves_the_other_sides_answer(
    runs: Path, page: "Page", visit: "Visit"
) -> None:
    choose(page, THREE, FOUR)
    ask(page, "What is a llama?")
    answered(page)  # so both are loaded and can be slowed down
    with slowed(runs / "Tiny-Llama-3bit"):
        page = visit(LONG)
        page.wait_for_selector(f"#answers .hubq-side[aria-label*='{THREE}'] dl")

        for process in workers(runs / "Tiny-Llama-3bit"):
            process.kill()

        page.wait_for_selector("#answers .hubq-failed")
    answered(page, 1)
    dead, alive = page.locator("#answers .hubq-side").all_inner_texts()
    assert "was killed" in dead
    assert "was killed" not in alive
    page.click("#again")
    page.wait_for_selector("#answers .hubq-failed", state="detached")
    answered(page)
