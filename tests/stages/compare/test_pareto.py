import pytest

from hubq.records.report import Interval
from hubq.stages.compare.pareto import Point, dominates, front


def point(bits: float, loss: float, noise: float | None = None) -> Point:
    ends = {} if noise is None else {"low": loss - noise, "high": loss + noise}
    return Point(bits, Interval(value=loss, **ends))


def test_without_intervals_the_values_decide() -> None:
    assert front([point(2, 0.9), point(3, 0.95), point(4, 0.1)]) == [True, False, True]


def test_equal_points_are_both_on_the_front() -> None:
    assert front([point(4, 0.1), point(4, 0.1)]) == [True, True]


@pytest.mark.parametrize(("noise", "is_beaten"), [(0.002, True), (0.006, False)])
def test_a_model_of_as_many_bits_is_beaten_only_beyond_the_noise(
    noise: float, is_beaten: bool
) -> None:
    assert dominates(point(4, 0.10, noise), point(4, 0.11, noise)) == is_beaten


def test_one_that_loses_no_more_beats_another_with_clearly_more_bits() -> None:
    assert dominates(point(4, 0.10, 0.01), point(4.5, 0.11, 0.01))
    assert not dominates(point(4.499, 0.10, 0.01), point(4.5, 0.11, 0.01))


def test_fewer_bits_beat_nothing_whose_value_is_less() -> None:
    assert not dominates(point(2, 0.11, 0.01), point(4, 0.10, 0.01))


def test_where_one_interval_is_unknown_the_values_decide() -> None:
    assert dominates(point(4, 0.10, 0.05), point(4, 0.11))


def test_whatever_is_beaten_is_beaten_by_one_on_the_front() -> None:
    crowd = [point(bits, 1 / bits + 0.01 * (bits % 3), 0.02) for bits in range(1, 30)]

    kept = front(crowd)

    best = [each for each, is_kept in zip(crowd, kept, strict=True) if is_kept]
    for each, is_kept in zip(crowd, kept, strict=True):
        assert is_kept != any(dominates(other, each) for other in best)
