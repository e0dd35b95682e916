"""Differences between two models on the same items, and how much of them is chance."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hubq.records.report import OVERFLOW, Flips, Interval, LeftOut, Measurement
from hubq.stages.evaluate import bootstrap
from hubq.stages.evaluate.bootstrap import mcnemar
from hubq.stages.evaluate.measurements.perplexity import estimate
from hubq.stages.evaluate.paired_difference import (
    Matched,
    difference,
    flips,
    left_out,
    measurement,
    overall,
    recovery,
)
from hubq.stages.evaluate.task import Score


def score(items: Sequence[float] = (), metric: str = "acc", **changes: object) -> Score:
    """Return a score that is the mean of its items, or exp of it for a perplexity."""
    mean = math.fsum(items) / len(items) if items else 0.5
    values = {
        "task": "piqa",
        "dataset": "piqa",
        "dimension": "knowledge",
        "metric": metric,
        "better": "lower" if metric == "perplexity" else "higher",
        "value": math.exp(min(mean, 700)) if metric == "perplexity" else mean,
        "stderr": None,
        "samples": len(items),
        "protocol": "0-shot",
        "version": "1",
        "items": tuple(map(float, items)),
    }
    return Score.model_validate(values | changes)


def pair(
    base: Sequence[float], own: Sequence[float], metric: str = "acc", **changes: object
) -> Matched:
    return Matched(score(base, metric, **changes), score(own, metric, **changes), seed=0)


def outcomes(both: int, lost: int, won: int, neither: int) -> Matched:
    """Return a pair of accuracies with so many items of each kind."""
    base = [1] * (both + lost) + [0] * (won + neither)
    own = [1] * both + [0] * lost + [1] * won + [0] * neither
    return pair(base, own)


def known(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_a_difference_on_the_same_items_is_known_better_than_that_of_two_samples() -> None:
    paired = outcomes(both=600, lost=20, won=10, neither=370)
    stderr = math.sqrt(0.6 * 0.4 / 1000)
    apart = Matched(
        paired.base.model_copy(update={"items": (), "stderr": stderr}),
        paired.own.model_copy(update={"items": (), "stderr": stderr}),
        seed=0,
    )

    close, wide = known(difference(paired)), known(difference(apart))

    assert close == pytest.approx((-0.021, 0.001), abs=1.5e-3)
    assert wide == pytest.approx((-0.01 - 0.043, -0.01 + 0.043), abs=2e-3)
    assert (paired.paired, apart.paired) == (True, False)


def test_without_any_flip_the_rule_of_three_bounds_the_difference() -> None:
    low, high = known(difference(outcomes(both=60, lost=0, won=0, neither=40)))

    assert low == pytest.approx(-3 / 102)
    assert high == pytest.approx(3 / 102)


@pytest.mark.parametrize(("lost", "won"), [(50, 30), (20, 20), (2, 2), (1, 0), (300, 100)], ids=str)
def test_the_interval_of_an_accuracy_covers_the_truth_as_often_as_it_says(
    lost: int, won: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1000)
    kinds = np.array([500, lost, won, 500 - lost - won]) / 1000
    random = np.random.default_rng(1)
    covered = []

    for _ in range(300):
        found = outcomes(*random.multinomial(400, kinds).tolist())
        low, high = known(difference(found))
        least, most = known(recovery(found))
        share = (500 + won) / (500 + lost)
        covered.append((low <= (won - lost) / 1000 <= high, least <= share <= most))

    assert np.mean(covered, axis=0) == pytest.approx(0.97, abs=0.04)  # 0.93 at the least


@pytest.mark.parametrize("windows", [5, 20, 40])
def test_the_interval_of_a_perplexity_covers_the_truth_as_often_as_it_says(
    windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1000)
    random = np.random.default_rng(1)
    covered = []

    for _ in range(300):
        base = random.normal(3.2, 0.3, windows)
        own = base + random.normal(0.1, 0.05, windows)
        found = pair(base.tolist(), own.tolist(), "perplexity")
        low, high = known(difference(found))
        least, most = known(recovery(found))
        truth = math.exp(3.3) - math.exp(3.2)
        covered.append((low <= truth <= high, least <= math.exp(-0.1) <= most))

    assert np.mean(covered, axis=0) == pytest.approx(0.96, abs=0.035)


def test_windows_that_lose_alike_leave_little_doubt_of_a_difference() -> None:
    base = [2.0, 3.0, 4.0, 5.0, 3.5, 2.5]

    alike = pair(base, [loss + 0.1 + 1e-4 * loss for loss in base], "perplexity")
    unlike = pair(base, [2.4, 2.8, 4.3, 4.9, 3.9, 2.5], "perplexity")

    (low, high), (least, most) = known(recovery(alike)), known(recovery(unlike))
    assert high - low < 1e-3 < 0.1 < most - least


def test_the_recovery_of_a_perplexity_is_the_bases_over_the_results() -> None:
    found = recovery(pair([2.0, 3.0, 4.0], [2.1, 3.2, 4.1], "perplexity"))

    assert found is not None
    assert found.value == pytest.approx(math.exp(3.0 - 9.4 / 3))
    low, high = known(found)
    assert low < found.value < high


def far_off(losses: Sequence[float]) -> Score:
    return score(losses, "perplexity", value=estimate(list(losses))[0])


def test_a_perplexity_beyond_numbers_leaves_nothing_and_stays_valid_json() -> None:
    found = measurement(Matched(score([2.0, 3.0], "perplexity"), far_off([5000.0, 900.0]), seed=0))

    assert found.value == OVERFLOW
    assert found.recovery is not None
    assert found.recovery.value == pytest.approx(0)
    assert Measurement.model_validate_json(found.model_dump_json()) == found
    assert "Infinity" not in found.model_dump_json()


def test_of_a_base_beyond_numbers_no_share_is_left() -> None:
    assert recovery(Matched(far_off([900.0, 901.0]), far_off([900.0, 901.0]), seed=0)) is None


def test_equal_losses_give_no_interval_rather_than_one_without_width() -> None:
    found = pair([2.0, 3.0, 4.0], [2.0, 3.0, 4.0], "perplexity")

    assert difference(found) == Interval(value=0)
    assert recovery(found) == Interval(value=1)


def test_one_item_tells_nothing_of_others() -> None:
    assert difference(pair([2.0], [2.5], "perplexity")).low is None


def test_a_metric_without_items_or_errors_has_no_interval() -> None:
    found = measurement(pair((), (), "bleu"))

    assert found.difference == Interval(value=0)
    assert not found.paired
    assert found.flips is None


def test_a_number_that_is_no_mean_of_its_items_is_not_paired_by_them() -> None:
    macro = pair([1, 0, 1, 1], [1, 0, 0, 1], value=0.6, stderr=0.1)

    assert not macro.paired
    low, high = known(difference(macro))
    assert low < 0 < high


def test_a_bias_score_has_no_recovery() -> None:
    assert recovery(pair([0.1, 0.2], [0.2, 0.1], "bias", better="zero")) is None
    assert recovery(pair([0.1, 0.2], [0.2, 0.1], "error", better="lower")) is None


def test_nothing_is_recovered_of_a_base_that_had_nothing_right() -> None:
    assert recovery(outcomes(both=0, lost=0, won=3, neither=7)) is None


def test_a_draw_in_which_the_base_has_nothing_right_leaves_the_recovery_open() -> None:
    assert recovery(outcomes(both=0, lost=1, won=2, neither=200)) == Interval(value=2)


def test_the_same_seed_gives_the_same_interval_whatever_else_is_measured() -> None:
    first, second = (outcomes(both=60, lost=8, won=4, neither=28) for _ in range(2))
    difference(outcomes(both=1, lost=1, won=1, neither=1))

    assert measurement(first) == measurement(second)


@pytest.mark.parametrize(
    ("lost", "won", "expected"),
    [(0, 0, 1.0), (5, 5, 1.0), (6, 0, 2 / 64), (8, 1, 2 * 10 / 512), (1, 8, 2 * 10 / 512)],
)
def test_mcnemars_test_is_exact(lost: int, won: int, expected: float) -> None:
    assert mcnemar(lost, won) == pytest.approx(expected)


def test_flips_count_what_was_lost_won_and_answered_otherwise() -> None:
    base, own = score([1, 1, 0, 0, 0]), score([1, 0, 1, 0, 0])
    answered = Matched(
        base.model_copy(update={"answers": ("a", "b", "a", "c", "d")}),
        own.model_copy(update={"answers": ("a", "c", "b", "d", "d")}),
        seed=0,
    )

    assert flips(answered) == Flips(lost=1, won=1, changed=3)
    assert flips(Matched(base, own, seed=0)) == Flips(lost=1, won=1, changed=2)


def test_values_between_right_and_wrong_do_not_flip() -> None:
    assert flips(pair([0.2, 0.7], [0.3, 0.6])) is None


def test_only_right_or_wrong_items_have_a_p_value() -> None:
    right_or_wrong = measurement(outcomes(both=10, lost=6, won=0, neither=4))
    graded = measurement(pair([0.2, 0.7], [0.3, 0.6]))

    assert (right_or_wrong.p_value, graded.p_value) == (2 / 64, None)


def test_the_overall_mean_takes_one_accuracy_of_each_task() -> None:
    tasks = {
        "piqa": [pair([1, 0], [0, 0], task="piqa"), pair([1, 1], [1, 0], "acc_norm", task="piqa")],
        "gsm8k": [pair([1, 0, 0, 0], [0, 0, 0, 0], "exact_match", task="gsm8k")],
        "xsum": [pair((), (), "rouge", task="xsum")],
    }

    found = overall(tasks.items())

    assert found is not None
    assert found.accuracies == ("piqa acc_norm", "gsm8k exact_match")
    assert (found.base, found.value) == (0.625, 0.25)
    assert found.recovery.value == 0.4


def test_a_task_with_members_counts_once_and_a_list_of_tasks_as_its_members() -> None:
    members = [pair([1, 0], [1, 0], task=name) for name in ("anatomy", "law")]

    group = overall([("mmlu", [*members, pair([1, 0, 1, 0], [1, 0, 1, 0], task="mmlu")])])
    tag = overall([("mmlu", members)])

    assert group is not None
    assert group.accuracies == ("mmlu acc",)
    assert tag is not None
    assert tag.accuracies == ("anatomy acc", "law acc")


def test_several_tasks_are_known_better_than_each() -> None:
    one = outcomes(both=60, lost=8, won=6, neither=26)
    tasks = {name: [pair(one.base.items, one.own.items, task=name)] for name in "abcd"}

    found = overall(tasks.items())

    assert found is not None
    low, high = known(found.difference)
    each_low, each_high = known(difference(tasks["a"][0]))
    assert high - low == pytest.approx((each_high - each_low) / 2, rel=0.1)


def test_one_task_without_errors_leaves_the_overall_interval_open() -> None:
    found = overall([("a", [outcomes(5, 1, 1, 3)]), ("b", [pair((), (), task="b")])])

    assert found is not None
    assert found.difference.low is None
    assert found.recovery.value == 1


@pytest.mark.parametrize("tasks", [{}, {"a": [outcomes(0, 0, 1, 1)]}], ids=["none", "none right"])
def test_without_accuracies_there_is_no_overall(tasks: dict[str, list[Matched]]) -> None:
    assert overall(tasks.items()) is None


def guessed(task: str, **changes: object) -> Matched:
    """Return an accuracy that in the base lies just above a third, and in the result below."""
    options: dict[str, Any] = {"task": task, "chance": 1 / 3, "stderr": 0.03, **changes}
    return pair([1] * 35 + [0] * 65, [1] * 30 + [0] * 70, **options)


def test_a_base_that_only_guesses_has_nothing_that_could_be_recovered() -> None:
    assert recovery(guessed("siqa")) is None
    assert recovery(guessed("siqa", stderr=0.001)) is not None
    assert recovery(guessed("siqa", chance=None)) is not None


def test_the_mean_leaves_out_what_the_base_guesses_and_what_is_about_alignment() -> None:
    tasks = [
        ("siqa", [guessed("siqa")]),
        ("piqa", [guessed("piqa", chance=0.1)]),
        ("bbq", [guessed("bbq", chance=0.1, dimension="alignment")]),
    ]

    found = overall(tasks)

    assert found is not None
    assert found.accuracies == ("piqa acc",)
    assert left_out(tasks) == (
        LeftOut(accuracy="siqa acc", reason="guessing"),
        LeftOut(accuracy="bbq acc", reason="alignment"),
    )


def test_without_a_task_beyond_guessing_there_is_no_mean_but_a_reason() -> None:
    tasks = [("siqa", [guessed("siqa")])]

    assert overall(tasks) is None
    assert [each.reason for each in left_out(tasks)] == ["guessing"]


def test_a_member_stays_known_as_part_of_its_group() -> None:
    assert measurement(pair([1, 0], [1, 1], part_of="hubq_bbq")).part_of == "hubq_bbq"
