"""Names: those that the Hub takes, and those that hubq makes."""

from random import Random

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from hubq.records.vocabulary import LONGEST_NAME, mistake_in_id, mistake_in_name


@pytest.mark.parametrize("seed", range(10))
def test_no_name_is_taken_that_huggingface_hub_refuses(seed: int) -> None:
    random = Random(seed)
    for _ in range(300):
        name = "".join(random.choices("aZ0-_. é\n/", k=random.choice([1, 2, 3, 5, 96, 97])))
        name += random.choice(["", ".git", ".ipynb", "\n"])

        if mistake_in_name(name) is None:
            validate_repo_id(f"org/{name}")


@pytest.mark.parametrize("name", ["a", "Llama-3.1-8B", "_x", "a_b.c", "x" * LONGEST_NAME])
def test_ordinary_names_are_taken(name: str) -> None:
    assert mistake_in_name(name) is None
    assert mistake_in_id(f"org/{name}") is None


@pytest.mark.parametrize(
    "name", ["my--model", "a..b", "x.git", "é", "a b", "x" * (LONGEST_NAME + 1)]
)
def test_what_huggingface_hub_refuses_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(HFValidationError):
        validate_repo_id(f"org/{name}")

    assert "it may" in (mistake_in_name(name) or "")
