"""What each license asks for: the table, and how licenses are found in it."""

import re

import pytest

from hubq.records.vocabulary import HUB_LICENSES
from hubq.sources.license_terms import TERMS, governing, sentences, terms_of
from hubq.stages.card.metadata import license_keys


@pytest.mark.parametrize(
    ("license", "start", "built_with", "notice"),
    [
        ("llama2", None, None, "LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc."),
        ("llama3", "Llama-3", "Built with Meta Llama 3", "Meta Llama 3 Community License, "),
        ("llama3.1", "Llama", "Built with Llama", "the Llama 3.1 Community License, Copyright ©"),
        ("llama3.2", "Llama", "Built with Llama", "the Llama 3.2 Community License, Copyright ©"),
        ("llama3.3", "Llama", "Built with Llama", "the Llama 3.3 Community License, Copyright ©"),
        ("llama4", "Llama", "Built with Llama", "the Llama 4 Community License, Copyright ©"),
        ("gemma", None, None, "Gemma Terms of Use found at ai.google.dev/gemma/terms"),
        ("tongyi-qianwen", None, None, "Tongyi Qianwen LICENSE AGREEMENT, Copyright (c) Alibaba"),
        ("qwen", None, "Built with Qwen", "Qwen LICENSE AGREEMENT, Copyright (c) Alibaba Cloud."),
        ("qwen-research", None, "Built with Qwen", "Qwen RESEARCH LICENSE AGREEMENT, Copyright"),
    ],
)
def test_each_license_has_the_words_that_its_text_gives(
    license: str, start: str | None, built_with: str | None, notice: str
) -> None:
    terms = TERMS[license]

    assert (terms.start, terms.built_with) == (start, built_with)
    assert notice in (terms.notice or "")


@pytest.mark.parametrize("license", ["apache-2.0", "mit"])
def test_a_permissive_license_asks_for_no_name_and_no_notice(license: str) -> None:
    terms = TERMS[license]

    assert (terms.start, terms.built_with, terms.notice, terms.stays) == (None, None, None, False)


@pytest.mark.parametrize(
    ("license", "marks"),
    [("llama3.1", False), ("gemma", True), ("qwen", True), ("apache-2.0", True), ("mit", False)],
)
def test_some_licenses_want_changed_files_to_be_marked(license: str, marks: bool) -> None:
    assert TERMS[license].marks_changes == marks


@pytest.mark.parametrize("license", sorted(TERMS))
def test_every_text_has_an_address(license: str) -> None:
    terms = TERMS[license]

    assert terms.address.startswith("https://")
    assert terms.policy is None or terms.policy.startswith("https://")


@pytest.mark.parametrize(
    ("spelling", "license"),
    [
        ("llama-3.3-community-license", "llama3.3"),
        ("Llama 3.1 Community License Agreement", "llama3.1"),
        ("meta-llama-3", "llama3"),
        ("tongyi-qianwen-license-agreement", "tongyi-qianwen"),
        ("tongyi-qianwen-research-license", "tongyi-qianwen-research"),
        ("Qwen Research", "qwen-research"),
        ("Gemma Terms of Use", "gemma"),
        ("MIT", "mit"),
    ],
)
def test_names_that_cards_give_a_license_lead_to_its_terms(spelling: str, license: str) -> None:
    assert terms_of(spelling) is TERMS[license]


@pytest.mark.parametrize("license", [None, "other", "cc-by-4.0", "llama", "llama5", "gemma-like"])
def test_other_licenses_have_no_terms_here(license: str | None) -> None:
    assert terms_of(license) is None


def test_the_base_whose_terms_are_known_governs_whatever_was_published() -> None:
    assert governing("apache-2.0", "cc-by-nc-4.0") == "apache-2.0"
    assert governing("my-own", "llama3.1") == "llama3.1"
    assert governing("my-own", None) == "my-own"


def test_the_card_of_a_gemma_passes_the_restrictions_on() -> None:
    said = " ".join(sentences("gemma"))

    assert "Gemma is provided under and subject to the Gemma Terms of Use" in said
    assert "section 3.2" in said
    assert "https://ai.google.dev/gemma/prohibited_use_policy" in said
    assert "they were changed by quantizing" in said


def test_the_card_of_a_llama_names_notice_and_policy() -> None:
    notice, policy = sentences("llama3.1")

    assert notice == f"{TERMS['llama3.1'].notice}"
    assert policy == "Its use must follow the policy at https://www.llama.com/llama3_1/use-policy."


@pytest.mark.parametrize("license", sorted(TERMS))
def test_a_card_can_name_every_license_as_the_hub_wants_it(license: str) -> None:
    keys = license_keys(license, "acme/base")

    assert keys["license"] in HUB_LICENSES
    if keys["license"] == "other":
        assert re.fullmatch(r"[a-z0-9.-]+", keys["license_name"])
        assert keys["license_link"] == TERMS[license].address


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE.md"])
def test_the_link_leads_to_the_text_in_the_repo_where_it_lies_there(name: str) -> None:
    assert license_keys("qwen", "Qwen/Qwen2.5-72B", ["config.json", name])["license_link"] == name
