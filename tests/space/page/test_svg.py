import math

import pytest

from page.svg import Scale, fitted


def test_a_scale_maps_its_ends_to_the_pixels() -> None:
    scale = Scale(2.0, 4.0, 10.0, 30.0)

    assert [scale(value) for value in (2.0, 3.0, 4.0)] == [10.0, 20.0, 30.0]


def test_a_logarithmic_scale_gives_each_power_of_ten_the_same_room() -> None:
    scale = Scale(0.01, 100.0, 0.0, 40.0, is_log=True)

    assert [scale(value) for value in (0.1, 1.0, 10.0)] == pytest.approx([10, 20, 30])


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e300, math.inf])
def test_what_lies_outside_stays_at_the_border(value: float) -> None:
    for scale in (Scale(1.0, 2.0, 0.0, 9.0), Scale(1.0, 20.0, 0.0, 9.0, is_log=True)):
        assert 0.0 <= scale(value) <= 9.0


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1.7, 8.9, [2, 4, 6, 8]),
        (0.61, 1.04, [0.7, 0.8, 0.9, 1.0]),
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 3.0, [-3, -2, -1, 0, 1, 2, 3]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, ticks: list[float]) -> None:
    assert Scale(low, high, 0, 1).ticks() == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (22.0, 210.0, [50, 100, 200]),
        (0.003, 3.0, [0.01, 0.1, 1]),
        (1e-6, 1e6, [1e-6, 1e-3, 1, 1e3, 1e6]),
    ],
)
def test_logarithmic_ticks_thin_out_as_the_axis_grows(
    low: float, high: float, ticks: list[float]
) -> None:
    assert Scale(low, high, 0, 1, is_log=True).ticks() == pytest.approx(ticks)


def test_values_far_apart_get_a_logarithmic_scale_where_that_is_wanted() -> None:
    assert fitted([0.01, 3.0], 0, 1, may_be_log=True).is_log
    assert not fitted([0.01, 3.0], 0, 1).is_log
    assert not fitted([25.0, 33.0], 0, 1, may_be_log=True).is_log
    assert not fitted([0.0, 33.0], 0, 1, may_be_log=True).is_log


@pytest.mark.parametrize("values", [[], [4.0], [0.0, 0.0], [math.inf, 1.0], [math.nan]])
def test_a_scale_of_any_values_has_room(values: list[float]) -> None:
    scale = fitted(values, 0, 100, may_be_log=True)

    assert scale.low < scale.high
    assert scale.ticks()
