"""Which models are ranked together, and what a base is among them."""

from typing import Any

from made_adaptation import adapted_report, made_adaptation
from made_measurements import EFFICIENCY, FIDELITY, assessed
from made_run import made_checkpoint, made_plan, made_report, measurement

from hubq.records.report import Measured, Report
from hubq.stages.compare.comparison import families


def made(repo: str, bits: float = 4.0, **changes: Any) -> Report:
    """Return a report of a model with so many bits in its file."""
    checkpoint = made_checkpoint({}).model_copy(update={"model_bits": bits})
    return made_report(plan=made_plan(repo), checkpoint=checkpoint, **changes)


def grouped(*measured: Measured) -> list[list[str]]:
    return [[each.name for each in family.entries] for family in families(measured)]


def test_models_of_one_base_stand_together_by_their_bits() -> None:
    assert grouped(made("a/x", 5), made("a/y", 3), made("a/z", 5)) == [["a/y", "a/x", "a/z"]]


def test_models_of_another_base_are_not_ranked_with_them() -> None:
    other = made_report(plan=made_plan("b/x", base_model="acme/Other"))

    assert grouped(made("a/x"), other, made("a/y")) == [["a/x", "a/y"], ["b/x"]]


def test_a_strangers_model_is_ranked_with_ours_whatever_commit_its_base_is_pinned_to() -> None:
    assert grouped(made("a/x"), assessed("meta-llama/Meta-Llama-3-8B@8cde5ca")) == [
        ["a/x", "ann/Tiny@1234"]
    ]


def test_another_way_to_measure_shows_in_the_bases_perplexity() -> None:
    longer = made("a/y", measurements=(measurement(base=21.3, value=24.0),))

    assert grouped(made("a/x"), longer) == [["a/x"], ["a/y"]]


def test_the_last_digits_of_another_machine_do_not_part_models() -> None:
    elsewhere = made("a/y", measurements=(measurement(base=25.98, value=29.0),))

    assert grouped(made("a/x"), elsewhere) == [["a/x", "a/y"]]


def test_distributions_on_other_texts_do_not_compare() -> None:
    other = FIDELITY.model_copy(update={"dataset": "c4"})

    assert len(families([made("a/x", fidelity=FIDELITY), made("a/y", fidelity=other)])) == 2


def test_the_base_is_a_model_among_them() -> None:
    floor = FIDELITY.model_copy(update={"floor": FIDELITY.result})
    report = made("a/x", fidelity=floor, efficiency=EFFICIENCY)

    (family,) = families([report])

    base = family.base
    assert (base.name, base.form, base.weight_bytes) == (
        "meta-llama/Meta-Llama-3-8B",
        "dense",
        49152,
    )
    assert base.model_bits == 8 * 49152 / 24576
    assert base.perplexities == {"xsum": 25.97}
    assert base.divergence == FIDELITY.result.mean
    assert base.tokens_per_second == 12.34


def test_the_base_of_a_strangers_model_has_the_bits_of_its_files() -> None:
    (family,) = families([assessed("acme/Base@1")])

    assert (family.base.name, family.base.model_bits) == ("acme/Base@1", 16)


def test_an_adapter_counts_with_what_it_is_loaded_on() -> None:
    (family,) = families([adapted_report()])

    (found,) = family.entries
    assert found.method == "gptq + low_rank"
    assert (found.stored_bits, found.weight_bytes) == (4.3125 + 0.5, 37312 + 3072)
    assert found.model_bits == 8 * (37312 + 3072) / 24576


def test_a_whole_adapted_model_counts_alone() -> None:
    adaptation = made_adaptation({"model.safetensors": "3" * 64}, "checkpoint")

    (family,) = families([adapted_report(adaptation=adaptation)])

    (found,) = family.entries
    assert found.weight_bytes == 3072
