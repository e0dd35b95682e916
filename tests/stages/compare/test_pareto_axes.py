"""Which model to take: what counts, and who is on the front."""

from made_measurements import made_entry

from hubq.records.report import Interval
from hubq.stages.compare.pareto import Point, axes, short_names


def test_models_are_compared_by_their_divergence_where_all_have_one() -> None:
    found = axes([made_entry("a/x", divergence=0.1), made_entry("a/y", 3.0, divergence=0.3)])

    assert found is not None
    assert found.loss == "KL divergence from the base"
    assert found.points == {
        "a/y": Point(5.0, Interval(value=0.3)),
        "a/x": Point(6.0, Interval(value=0.1)),
    }


def test_a_perplexity_that_more_models_have_goes_before_a_divergence() -> None:
    found = axes([made_entry("a/x", divergence=0.1), made_entry("a/y", 3.0)])

    assert found is not None
    assert (found.loss, found.base) == ("perplexity on xsum", 26.0)


def test_models_are_compared_by_what_this_one_has() -> None:
    others = [made_entry(f"a/{name}") for name in "xyz"]
    this = made_entry("a/this", perplexities={"c4": 9.0}, base_perplexities={"c4": 8.0})

    found = axes([*others, this], this.name)

    assert found is not None
    assert (found.loss, list(found.points)) == ("perplexity on c4", ["a/this"])


def test_bits_are_those_of_the_whole_file() -> None:
    found = axes([made_entry("a/x", 4.0, model_bits=5.0), made_entry("a/y", None)])

    assert found is not None
    assert found.cost == "stored bits per parameter of the whole file"
    assert [bits for bits, _ in found.points.values()] == [5.0, 6.0]


def test_nothing_compares_what_was_not_measured() -> None:
    assert axes([made_entry("a/x", perplexities={}, base_perplexities={})], "a/x") is None


def test_the_front_leaves_out_what_another_beats_at_no_more_bits() -> None:
    losses = {"a/two": (2.0, 0.9), "a/bad": (3.0, 0.95), "a/four": (4.0, 0.1)}
    entries = [made_entry(name, bits, divergence=loss) for name, (bits, loss) in losses.items()]

    found = axes(entries)

    assert found is not None
    assert found.front == ["a/two", "a/four"]


def test_short_names_leave_out_what_all_names_begin_with() -> None:
    names = short_names(["a/Tiny-Llama-RTN-4bit", "b/Tiny-Llama-RTN-8bit", "a/Tiny-Llama-GPTQ"])

    assert list(names.values()) == ["RTN-4bit", "RTN-8bit", "GPTQ"]


def test_a_short_name_is_never_empty() -> None:
    assert short_names(["a/Llama", "a/Llama-4bit"]) == {
        "a/Llama": "Llama",
        "a/Llama-4bit": "4bit",
    }
