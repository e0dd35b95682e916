from collections.abc import Iterator
from email.message import Message

import pytest

from hubq.stages.card.sections import usage


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[Message]:
    """Let the installed package have other metadata."""
    found = Message()
    monkeypatch.setattr(usage, "metadata", lambda name: found)
    usage.project_url.cache_clear()
    yield found
    usage.project_url.cache_clear()


def test_without_an_address_the_card_warns_of_the_name(named: Message) -> None:
    assert usage.project_url() is None
    assert "not on PyPI under that name" in usage.hubq_in_words()


def test_an_address_is_that_of_the_packages_own_metadata(named: Message) -> None:
    named["Project-URL"] = "Changelog, https://example.org/changes"
    named["Project-URL"] = "Homepage, https://example.org/hubq"

    assert usage.hubq_in_words().startswith("[hubq](https://example.org/hubq)")
