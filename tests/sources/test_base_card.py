"""What of a base's card and gate its copies carry on."""

import datetime

import pytest

from hubq.records.plan import BaseCard
from hubq.sources.base_card import base_card

FORM = {
    "extra_gated_prompt": "You agree to the license.",
    "extra_gated_fields": {"Country": "country", "I accept": "checkbox"},
}


def test_an_open_base_without_a_form_has_no_gate() -> None:
    assert base_card({"license": "mit"}, False) == BaseCard(license="mit")


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_the_hub_says_who_answers_requests(gated: str) -> None:
    assert base_card({}, gated).gate == gated


def test_a_form_without_a_repo_to_ask_tells_of_a_gate() -> None:
    assert base_card(FORM).gate == "unknown"


def test_the_hubs_word_goes_before_the_form_on_the_card() -> None:
    assert base_card(FORM, False).gate is None


def test_all_keys_of_the_form_are_carried_over_as_they_are() -> None:
    card = {"license": "llama3.1", **FORM, "extra_gated_eu_disallowed": True, "tags": ["x"]}

    assert base_card(card).extra_gated == {**FORM, "extra_gated_eu_disallowed": True}


def test_a_value_that_no_json_holds_becomes_text() -> None:
    card = {"extra_gated_fields": {"Since": datetime.date(2026, 1, 2)}}

    found = base_card(card)

    assert found.extra_gated == {"extra_gated_fields": {"Since": "2026-01-02"}}
    assert BaseCard.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("written", "language"),
    [
        ("en", ("en",)),
        (["en", "de", "yue", "multilingual"], ("en", "de", "yue", "multilingual")),
        (["zh-CN", "english", False, None, "EN"], ()),  # the Hub would refuse the copy's card
        (None, ()),
    ],
)
def test_languages_are_those_that_the_hub_takes(written: object, language: tuple[str, ...]) -> None:
    assert base_card({"language": written}).language == language
