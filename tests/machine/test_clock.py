"""Each second counts once."""

import pytest

from hubq.machine.progress import Clock


def test_what_is_timed_inside_another_name_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # publish begins, evaluate, plan; plan ends, evaluate; plan begins and ends, publish ends
    times = iter([0.0, 1.0, 2.0, 5.0, 7.0, 8.0, 9.0, 11.0])
    monkeypatch.setattr("hubq.machine.progress.perf_counter", lambda: next(times))
    clock = Clock()

    with clock.timing("publish"):
        with clock.timing("evaluate"), clock.timing("plan"):
            pass
        with clock.timing("plan"):
            pass

    assert clock.seconds == {"plan": 3 + 1, "evaluate": 3, "publish": 4}


def test_the_same_name_inside_itself_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr("hubq.machine.progress.perf_counter", lambda: next(times))
    clock = Clock()

    with clock.timing("solving"), clock.timing("solving"):
        pass

    assert clock.seconds == {"solving": 4}


def test_work_that_is_only_queued_counts_where_it_was_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, queued = 0.0, [0.0]

    def settle() -> None:
        nonlocal now
        now += queued.pop() if queued else 0.0

    monkeypatch.setattr("hubq.machine.progress.perf_counter", lambda: now)
    clock = Clock(settle)

    with clock.timing("forward"):
        queued.append(3.0)
        with clock.timing("hessian"):
            queued.append(5.0)

    assert clock.seconds == {"forward": 3, "hessian": 5}
