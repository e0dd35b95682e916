"""The spelling of intervals and differences, and what is called noise."""

import pytest
from made_run import measurement

from hubq.records.number_format import difference, judged, number, share, uncertain, within_noise
from hubq.records.report import Interval


def test_a_share_stands_in_percent_with_its_interval() -> None:
    assert share(Interval(value=0.987, low=0.979, high=0.994)) == "98.7 % (97.9 to 99.4)"


def test_a_share_without_an_interval_stands_alone() -> None:
    assert share(Interval(value=1)) == "100.0 %"


def test_a_share_that_has_no_meaning_is_a_dash() -> None:
    assert share(None) == "—"


@pytest.mark.parametrize(
    ("value", "low", "high", "written"),
    [
        (-0.0104, -0.0211, 0.0009, "-0.010 (-0.021 to +0.001)"),
        (3.6132, 3.2049, 4.0211, "+3.61 (+3.20 to +4.02)"),
        (1742.3, 1500.2, 2011.9, "+1,742 (+1,500 to +2,012)"),
        (3.6132, None, None, "+3.61"),
        (0, None, None, "0"),
        (0, -0.03, 0.03, "0 (-0.030 to +0.030)"),
    ],
)
def test_a_difference_has_as_many_decimals_as_say_something(
    value: float, low: float | None, high: float | None, written: str
) -> None:
    found = measurement(difference=Interval(value=value, low=low, high=high))

    assert difference(found) == written


def test_a_report_of_version_1_shows_the_plain_difference() -> None:
    assert difference(measurement(base=26, value=29.614)) == "+3.61"


def test_an_interval_beside_zero_is_noise_still_if_mcnemars_test_says_so() -> None:
    just_beside = Interval(value=-0.01, low=-0.02, high=-0.0001)

    assert within_noise(measurement(difference=just_beside, p_value=0.06))
    assert within_noise(measurement(difference=just_beside, p_value=0.04)) is False


def test_the_same_value_on_the_same_items_is_no_difference() -> None:
    same = measurement(value=25.97, stderr=None, difference=Interval(value=0), paired=True)

    assert judged(same) == "within noise"


@pytest.mark.parametrize(
    ("better", "low", "high", "word"),
    [
        ("lower", 3.2, 4.0, "worse"),
        ("higher", 3.2, 4.0, "better"),
        ("higher", -0.1, 4.0, "within noise"),
    ],
)
def test_a_difference_is_a_loss_or_a_win_only_beyond_the_noise(
    better: str, low: float, high: float, word: str
) -> None:
    found = measurement(better=better, difference=Interval(value=3.61, low=low, high=high))

    assert judged(found) == word


@pytest.mark.parametrize(
    ("base", "value", "word"),
    [
        (0.3, 0.1, "better"),
        (-0.3, 0.1, "better"),
        (-0.1, -0.3, "worse"),
        (0.1, -0.3, "worse"),
        (-0.2, 0.21, "within noise"),
    ],
)
@pytest.mark.parametrize("paired", [True, False])
def test_a_bias_is_judged_by_its_distance_from_zero(
    base: float, value: float, word: str, paired: bool
) -> None:
    shift = value - base
    known = {"difference": Interval(value=shift, low=shift - 0.05, high=shift + 0.05)}
    errors = {"base_stderr": 0.02, "stderr": 0.02}
    found = measurement(better="zero", base=base, value=value, **(known if paired else errors))

    assert judged(found) == word


def test_the_noise_of_a_bias_may_not_be_known() -> None:
    assert judged(measurement(better="zero", stderr=None)) == "noise not known"


def test_without_errors_nobody_knows() -> None:
    assert judged(measurement(stderr=None)) == "noise not known"


@pytest.mark.parametrize(
    ("value", "written"),
    [(1e300, "over 1e+300"), (1.23456e40, "1.235e+40"), (123456789.0, "123,456,789")],
)
def test_a_huge_number_is_written_with_its_power_of_ten(value: float, written: str) -> None:
    assert number(value) == uncertain(value, None) == written


def test_a_difference_to_a_number_beyond_all_is_written_so() -> None:
    assert difference(measurement(base=26, value=1e300)) == "over +1e+300"
