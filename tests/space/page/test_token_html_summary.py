from typing import Any

import pytest

from page.token_html import fresh, percent, quoted, summary
from serving.messages import Alternative
from serving.token_divergence import ExaminedAnswer, ExaminedToken


def seen(text: str, base: float = 0.9, best: str = "y", **changes: Any) -> ExaminedToken:
    choice = Alternative(
        id=1, text=best, probability=max(base, 0.45), ends=changes.pop("best_ends", False)
    )
    fields: dict[str, Any] = {"ends": False, "own": 0.6, "rank": 1, "kl": 0.1}
    return ExaminedToken(text=text, base=base, alternatives=(choice,), **(fields | changes))


def told(*tokens: ExaminedToken, diverges_at: int | None, aligned: str = "tokens") -> str:
    return summary(
        ExaminedAnswer.model_validate(
            {
                "title": "this model",
                "base": "the base",
                "aligned": aligned,
                "tokens": tokens,
                "diverges_at": diverges_at,
            }
        )
    )


def rest(base: float) -> list[ExaminedToken]:
    return [seen(f" {number}", base) for number in range(20)]


def test_an_answer_that_does_not_diverge_is_the_same() -> None:
    assert (
        told(seen("a"), seen("b"), diverges_at=None)
        == "The same as the base for all of its 2 tokens."
    )


def test_a_synonym_is_told_from_a_lost_thread() -> None:
    found = told(seen("A"), seen(" big", 0.31, " large"), *rest(0.6), diverges_at=1)

    assert found == (
        "The same for 1 token; then this model says “big” where the base says “large”: a choice "
        "that the base finds likely (31 %, against 45 %). The base could have continued like this "
        "(60 % per new token): different words, but not a lost thread."
    )


def test_a_lost_thread_is_called_so() -> None:
    found = told(seen("qx", 0.0001, "A"), *rest(0.01), diverges_at=0)

    assert found == (
        "At once this model says “qx” where the base says “A”: a choice that the base finds "
        "unlikely (under 0.1 %, against 45 %). The base finds what comes after very unlikely "
        "(1 % per new token): a lost thread."
    )


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.25, "finds likely"), (0.08, "finds possible"), (0.02, "finds unlikely")],
)
def test_a_choice_is_weighed(share: float, words: str) -> None:
    assert words in told(seen("x", share), diverges_at=0)


def test_a_rare_choice_among_rare_ones_is_about_as_likely() -> None:
    best = (Alternative(id=1, text="y", probability=0.05),)

    assert "about as likely as its own" in told(
        seen(
            "x",
            0.04,
        ).model_copy(update={"alternatives": best}),
        diverges_at=0,
    )


def test_words_are_shown_whole() -> None:
    found = told(seen(" l"), seen("ame", 0.1, "lam"), diverges_at=1)

    assert "says “lame” where the base says “llam”" in found


def test_an_early_end_is_told() -> None:
    found = told(seen("a"), seen("", 0.1, " and", ends=True), diverges_at=1)

    assert "this model ends where the base goes on with “and”" in found


def test_a_missed_end_is_told() -> None:
    found = told(seen("a"), seen(" and", 0.1, "", best_ends=True), diverges_at=1)

    assert "this model goes on with “and” where the base ends" in found


def test_a_difference_in_spaces_is_seen() -> None:
    assert "“␣x” where the base says “x”" in told(seen(" x", 0.1, "x"), diverges_at=0)


def test_repetition_is_told_and_does_not_count_as_a_thread() -> None:
    loop = [seen(text, 0.99) for text in (" the", " sea", " is", " blue", ",")] * 8

    found = told(seen("x", 0.1), *rest(0.01), *loop, diverges_at=0)

    assert "a lost thread" in found
    assert "52 % of the answer repeats what it said before." in found


def test_the_first_time_a_passage_is_said_it_is_new() -> None:
    tokens = [seen(text) for text in "abcdabcd"]

    assert fresh(tokens) == [0, 1, 2, 3, 4, 5, 6]


def test_a_comparison_by_text_says_so() -> None:
    assert "tokenize text differently" in told(seen("x"), diverges_at=None, aligned="text")


@pytest.mark.parametrize(
    ("text", "words"),
    [("\n\n", "a line break"), ("  ", "a space"), ("", "a part of a character"), (" x", "“x”")],
)
def test_what_cannot_be_seen_is_named(text: str, words: str) -> None:
    assert quoted(text) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "over 99 %"), (0.31, "31 %"), (0.004, "0.4 %"), (0.0, "under 0.1 %")],
)
def test_probabilities_are_written_as_people_say_them(share: float, words: str) -> None:
    assert percent(share) == words
