import pytest

from hubq.errors import UserError
from page.sampling_settings import LONGEST, MODELS, Comparison, defaults, from_query, to_query

FULL = Comparison(
    models=("acme/Llama-3-8B-GPTQ-4bit", "acme/Llama-3-8B-AWQ-4bit"),
    prompt="What is a llama?\n“Say & explain” = 50 % of it: {{x}} <b>ä</b>",
    system="Be brief.",
    settings={
        "max_new_tokens": 64,
        "temperature": 0.7,
        "top_p": 0.95,
        "top_k": 40,
        "repetition_penalty": 1.1,
        "seed": 2**31 - 1,
    },
)


@pytest.mark.parametrize("comparison", [FULL, Comparison(), Comparison(models=("a/b",))])
def test_a_link_gives_back_the_comparison(comparison: Comparison) -> None:
    assert from_query(to_query(comparison)) == (comparison, ())


@pytest.mark.parametrize("value", [0.1234567, 1e-7, 1.9999999])
def test_a_link_holds_a_setting_to_the_last_digit(value: float) -> None:
    comparison = Comparison(settings={**defaults(), "temperature": value})

    assert from_query(to_query(comparison))[0] == comparison


def test_a_question_mark_in_front_is_no_part_of_the_query() -> None:
    assert from_query("?" + to_query(FULL))[0] == FULL


def test_defaults_are_left_out() -> None:
    assert to_query(Comparison(models=("a/b",))) == "model=a%2Fb"


def test_what_no_link_can_hold_is_refused() -> None:
    with pytest.raises(UserError, match="Shorten the prompt"):
        to_query(Comparison(prompt="ä" * 2000))


def test_nothing_is_cut_off_silently() -> None:
    longest = Comparison(prompt="a" * (LONGEST - len("prompt=")))

    assert from_query(to_query(longest))[0] == longest


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("temperature=warm", "it has to be from 0 to 2"),
        ("temperature=nan", "it has to be from 0 to 2"),
        ("temperature=1e999", "it has to be from 0 to 2"),
        ("temperature=-1", "it has to be from 0 to 2"),
        ("top_p=0", "it has to be from 0.01 to 1"),
        ("max_new_tokens=1.5", "it has to be from 1 to 4096"),
        ("max_new_tokens=" + "9" * 5000, "it has to be from 1 to 4096"),
        ("seed=0x10", "sets seed to '0x10'"),
        ("seed=%00", "sets seed to"),
        ("model=<script>", "can't be a model"),
        ("model=two words", "can't be a model"),
        ("model=https://evil.example/a", "can't be a model"),
        ("model=//evil.example/a", "can't be a model"),
        ("seed=2147483648", "it has to be from 0 to 2147483647"),
        ("model=" + "a" * 300, "can't be a model"),
        ("&".join(f"model=a/{each}" for each in range(9)), f"the first {MODELS} are used"),
        ("a=1&" * 99, "too many parts"),
        ("prompt=" + "a" * LONGEST, "not read"),
    ],
)
def test_a_hostile_value_gives_a_sentence_and_the_default(query: str, words: str) -> None:
    comparison, problems = from_query(query)

    assert len(problems) == 1
    assert words in problems[0]
    assert comparison.settings == defaults()


@pytest.mark.parametrize(
    "query", ["", "?", "&&&", "=", "%", "model", "prompt=%ff%fe", "a[]=1", "💥"]
)
def test_what_means_nothing_is_passed_over(query: str) -> None:
    comparison, problems = from_query(query)

    assert comparison.models == ()
    assert not problems


def test_of_several_values_the_first_holds() -> None:
    assert from_query("seed=1&seed=2")[0].settings["seed"] == 1


def test_a_model_named_twice_is_compared_once() -> None:
    assert from_query("model=a/b&model=a/b")[0].models == ("a/b",)


def test_control_characters_are_dropped() -> None:
    assert from_query("prompt=a%00b%1b%0Ac")[0].prompt == "ab\nc"
