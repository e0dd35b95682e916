"""Cards as HTML: <picture> is shown, and nothing else of what a card has written in tags."""

import pytest

from hubq.embedded_hub.markdown import render

REPO = "acme/model"
PICTURE = """\
<picture>
  <source media="(prefers-color-scheme: dark)" srcset="images/x-dark.png">
  <img src="images/x.png" alt="A &quot;finding&quot; < 3" width="640">
</picture>
"""


def test_a_picture_for_light_and_dark_pages_is_shown() -> None:
    html = render(f"Above.\n\n{PICTURE}\nBelow.", REPO)

    assert html == (
        "<p>Above.</p>\n"
        '<picture><source media="(prefers-color-scheme: dark)" '
        'srcset="/acme/model/resolve/main/images/x-dark.png">'
        '<img src="/acme/model/resolve/main/images/x.png" alt="A &quot;finding&quot; &lt; 3" '
        'width="640"></picture>\n'
        "<p>Below.</p>\n"
    )


def test_a_picture_named_by_its_address_on_the_public_hub_is_the_repos_own() -> None:
    public = PICTURE.replace(
        "images/x-dark.png", "https://huggingface.co/acme/model/resolve/main/images/x-dark.png"
    )

    assert render(public, REPO) == render(PICTURE, REPO)


@pytest.mark.parametrize(
    "foreign",
    [
        "https://elsewhere.example/x.png",
        "//elsewhere.example/x.png",
        "javascript:alert(1)",
        "data:image/svg+xml,x",
        "https://huggingface.co/other/model/resolve/main/x.png",
    ],
)
def test_a_source_from_elsewhere_is_left_out(foreign: str) -> None:
    html = render(PICTURE.replace("images/x-dark.png", foreign), REPO)

    assert "<source" not in html
    assert '<img src="/acme/model/resolve/main/images/x.png"' in html


def test_of_a_picture_from_elsewhere_only_the_words_are_shown() -> None:
    html = render(PICTURE.replace("images/x.png", "https://elsewhere.example/x.png"), REPO)

    assert "<img" not in html
    assert "[A &quot;finding&quot; &lt; 3]" in html


@pytest.mark.parametrize(
    "hostile",
    [
        PICTURE.replace("<img", "<script>alert(1)</script><img"),
        PICTURE.replace("<img", '<img onerror="alert(1)"'),
        PICTURE.replace("<img", "words <img"),
        PICTURE.replace("<img", "<!-- note --><img"),
        PICTURE.replace("<img", "<iframe src='x'></iframe><img"),
        PICTURE.replace("<img", "<img src='images/x.png'><img"),
        PICTURE.replace("<picture>", '<picture style="position:fixed">'),
        PICTURE.replace("</picture>", "</picture><script>alert(1)</script>"),
        PICTURE.replace("</picture>", ""),
        "<picture><picture>" + PICTURE,
    ],
)
def test_more_than_a_picture_is_only_text(hostile: str) -> None:
    html = render(hostile, REPO)

    assert "<img" not in html
    assert "<script" not in html
    assert "&lt;picture" in html


def test_a_path_cannot_break_out_of_its_attribute() -> None:
    html = render(PICTURE.replace("images/x.png", "x&quot; onerror=&quot;alert(1)"), REPO)

    assert 'onerror="' not in html
    assert "x&quot; onerror=&quot;alert(1)" in html


def test_media_that_are_not_known_are_left_out() -> None:
    html = render(PICTURE.replace("(prefers-color-scheme: dark)", "print"), REPO)

    assert "<source" not in html


def test_columns_of_numbers_stand_right_without_any_style() -> None:
    html = render("| a | b | c |\n|---|---:|:-:|\n| 1 | 2 | 3 |\n", REPO)

    assert "<td>1</td>" in html
    assert '<td align="right">2</td>' in html
    assert '<td align="center">3</td>' in html
    assert "style" not in html


def test_a_picture_in_code_is_code() -> None:
    html = render(f"```html\n{PICTURE}```\n", REPO)

    assert "<picture" not in html
