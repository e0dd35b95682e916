import pytest
from pydantic import ValidationError

from hubq.errors import UserError
from serving.messages import EVENTS, Message, Model, Settings, Token


def test_settings_are_greedy_unless_told_otherwise() -> None:
    assert Settings.checked({}).temperature == 0


def test_all_mistakes_in_settings_are_named_at_once() -> None:
    with pytest.raises(UserError) as refusal:
        Settings.checked({"temperature": 7, "top_k": -1, "temprature": 1})

    assert str(refusal.value) == (
        "these settings can't be used: temperature must be less than or equal to 2, not 7; "
        "top_k must be greater than or equal to 0, not -1; temprature is not a "
        "setting; did you mean temperature?"
    )


def test_a_seed_is_as_large_as_a_link_can_say() -> None:
    assert Settings.checked({"seed": 2**31 - 1}).seed == 2**31 - 1
    with pytest.raises(UserError, match="seed must be less than"):
        Settings.checked({"seed": 2**31})


def test_an_impossible_token_survives_the_way_between_processes() -> None:
    token = Token(id=3, text="x", logprob=float("-inf"), alternatives=())

    assert EVENTS.validate_json(token.model_dump_json()) == token


def test_a_model_has_exactly_one_source() -> None:
    with pytest.raises(ValidationError, match="either a folder or a repo"):
        Model()


def test_a_repo_is_named_with_its_revision() -> None:
    assert Model(repo="acme/llama", revision="abc").name == "acme/llama@abc"


def test_half_a_character_becomes_a_question_mark() -> None:
    assert Message(role="user", content="a\ud83dé").content == "a?é"
