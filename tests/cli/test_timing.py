"""What `hubq publish` says of its time."""

from hubq.cli.bars import Timed, spent
from hubq.machine.progress import SILENT


def test_each_stage_is_told_with_its_longest_parts() -> None:
    stages = {"plan": 4.0, "quantize": 61.2, "evaluate": 95.4, "publish": 0.2}
    parts = {"quantize": {"forward": 13.4, "writing": 0.3, "solving": 20.0}}

    assert spent(stages, parts) == [
        "took  3 min (parts in seconds; some ran in parallel)",
        "      plan         4 s",
        "      quantize    61 s  solving 20, forward 13",
        "      evaluate   2 min",
    ]


def test_a_run_that_had_nothing_to_do_says_nothing() -> None:
    assert spent({"plan": 4.0, "publish": 9.0}, {}) == []


def test_a_task_that_comes_again_is_added_up() -> None:
    timed = Timed(SILENT)
    for _ in range(2):
        with timed.task("load", 1) as advance:
            advance(1)

    assert list(timed.seconds) == ["load"]
    assert timed.seconds["load"] > 0
