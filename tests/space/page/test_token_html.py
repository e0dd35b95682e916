import re
from html.parser import HTMLParser
from itertools import product

import pytest

from page.token_html import DIVERGENCE, OPACITIES, STYLE, TINT, legend, shade_of, shaded
from serving.messages import Alternative
from serving.token_divergence import ExaminedAnswer, ExaminedToken

HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "</span><img src=x onerror=alert(1)>",
    "**bold** [link](javascript:alert(1)) `code`",
    "&lt;b&gt; &#x3c;",
]
# Background and text of Gradio's light and dark themes.
THEMES = {"light": ((255, 255, 255), (31, 41, 55)), "dark": ((11, 15, 25), (243, 244, 246))}


def seen(
    text: str, base: float = 0.9, *, ends: bool = False, kl: float | None = None
) -> ExaminedToken:
    best = Alternative(id=1, text=text, probability=0.9)
    return ExaminedToken(
        text=text, ends=ends, base=base, own=0.5, rank=1, alternatives=(best,), kl=kl
    )


def page(*tokens: ExaminedToken, diverges_at: int | None = None, title: str = "Left") -> str:
    return shaded(
        ExaminedAnswer(
            title=title, base="the base", aligned="tokens", tokens=tokens, diverges_at=diverges_at
        )
    )


class Reader(HTMLParser):
    """What a browser makes of a page: its elements and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    read = Reader(page(seen(text), title=text))

    assert read.text == text
    assert {tag for tag, _ in read.elements} == {"div", "span"}
    assert {name for _, attrs in read.elements for name in attrs} <= {
        "class",
        "title",
        "role",
        "aria-label",
    }


def test_what_turns_text_around_is_shown_by_its_number() -> None:
    assert Reader(page(seen("a\u202eb\x00c"))).text == "a[U+202E]b[U+0000]c"


def test_a_character_of_several_tokens_is_one_place() -> None:
    read = Reader(page(seen("", 0.9), seen("é", 0.02), seen("!", 0.9)))

    spans = [attrs for tag, attrs in read.elements if tag == "span"]
    assert read.text == "é!"
    assert [each["class"] for each in spans] == [
        "hubq-token hubq-shade-3",
        "hubq-token hubq-shade-0",
    ]


def test_where_it_diverges_is_marked_in_words() -> None:
    read = Reader(page(seen("a"), seen(" b"), diverges_at=1))

    assert read.text == "adiverges from the base here ▸ b"


def test_the_mouse_finds_probabilities_on_every_token() -> None:
    read = Reader(page(seen("a", 0.9, kl=0.123)))

    assert read.elements[-1][1]["title"] == (
        "“a”: the base 90 % (its choice 1); this model 50 %. KL 0.12 nats. "
        "The base prefers “a” 90 %."
    )


def test_the_keyboard_stops_where_something_is_to_be_seen() -> None:
    read = Reader(page(seen("a", 0.9), seen("b", 0.1), seen("c", 0.9), diverges_at=2))

    stops = [attrs.get("tabindex") for _, attrs in read.elements if "title" in attrs]
    assert stops == [None, "0", "0"]


def test_line_breaks_and_ends_can_be_seen() -> None:
    assert Reader(page(seen("\n"), seen("", ends=True))).text == "↵\n(end)"


@pytest.mark.parametrize(
    ("share", "shade"), [(0.9, 0), (0.4, 1), (0.1, 2), (0.03, 3), (0.005, 4), (0.0, 5)]
)
def test_the_less_probable_a_token_the_stronger_its_shade(share: float, shade: int) -> None:
    assert shade_of(seen("a", share), "probability") == shade


def test_a_shade_by_divergence_needs_one() -> None:
    found = [shade_of(seen("a", kl=each), "kl") for each in (None, 0.0, *DIVERGENCE)]

    assert found == [0, 0, 1, 2, 3, 4, 5]


def luminance(colour: tuple[float, ...]) -> float:
    """Return the relative luminance of WCAG 2."""
    linear = [
        each / 255 / 12.92 if each <= 10 else ((each / 255 + 0.055) / 1.055) ** 2.4
        for each in colour
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("theme", "opacity"), [*product(THEMES, OPACITIES)])
def test_text_stays_readable_on_every_shade(theme: str, opacity: float) -> None:
    ground, text = THEMES[theme]

    behind = tuple(
        opacity * tint + (1 - opacity) * each for tint, each in zip(TINT, ground, strict=True)
    )

    light, dark = sorted((luminance(behind), luminance(text)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_every_shade_is_in_the_style_and_in_the_legend() -> None:
    for shade in range(len(OPACITIES)):
        assert f".hubq-shade-{shade} " in STYLE
        assert re.search(rf"hubq-shade-{shade}\b", legend())
