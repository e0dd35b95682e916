"""Scores of tasks on pictures: what a report keeps of them, and how two models' are compared."""

import math
from collections.abc import Callable, Sequence

import pytest
from progress_recorder import Recorder

from hubq.machine.progress import SILENT
from hubq.records.recipe_evaluate import EvaluateSection, TaskSection
from hubq.records.report import Interval
from hubq.stages.evaluate.measurements import read
from hubq.stages.evaluate.measurements.pictures import (
    PictureTask,
    picture_task,
    scores,
    stderr,
)
from hubq.stages.evaluate.paired_difference import Matched, matched, measurement, overall
from hubq.stages.evaluate.picture_benchmark import Number
from hubq.stages.evaluate.task import Outcome, Score

Say = Callable[[str], str]


def asked(name: str, limit: int | None = 20, **section: int) -> PictureTask:
    return picture_task(TaskSection(name=name), EvaluateSection(limit=limit, **section))


def measured(name: str, say: Say, limit: int = 20) -> Outcome:
    """Return what a model has that says this to a prompt."""
    found = scores(asked(name, limit), lambda picture, prompt: say(prompt), SILENT)
    return Outcome(scores=found, loader="none", seconds=0)


def compared(name: str, base: Say, own: Say) -> dict[str, Matched]:
    pairs = matched(measured(name, base), measured(name, own), seed=0)
    return {each.own.metric: each for each in pairs}


def test_right_or_wrong_answers_are_compared_item_by_item() -> None:
    pair = compared("hubq_diagrams", lambda prompt: "A", lambda prompt: "B")["acc"]

    found = measurement(pair)

    assert found.flips is not None
    # Each letter is right in five of twenty: what A had is lost, what B has is won.
    assert (found.flips.lost, found.flips.won, found.flips.changed) == (5, 5, 20)
    assert found.p_value == 1
    assert found.paired
    assert found.recovery is None  # the base does no better than guessing


def test_anls_is_compared_by_a_bootstrap_over_pairs() -> None:
    base, own = scored("anls", (1, 0.75) * 50), scored("anls", (0.5, 0.75) * 50)

    found = measurement(Matched(base, own, seed=0))

    assert (found.flips, found.p_value, found.paired) == (None, None, True)
    assert found.difference is not None
    assert found.difference.value == -0.25
    assert found.difference.low is not None
    # Half of the pairs differ by a half: a standard deviation of 0.25 over 100 of them.
    assert found.difference.low == pytest.approx(-0.25 - 1.96 * 0.025, abs=0.003)
    assert found.recovery is not None
    assert found.recovery.value == pytest.approx(0.625 / 0.875)


def test_the_scores_of_yes_no_pairs_have_their_chance_and_their_sanity_line() -> None:
    found = {each.metric: each for each in measured("hubq_yes_no", lambda prompt: "Yes").scores}

    assert {name: (each.value, each.chance, each.samples) for name, each in found.items()} == {
        "acc": (0.5, 0.5, 40),
        "acc+": (0, 0.25, 20),
        "score": (50, 75, 20),
    }
    assert "to say yes to everything gives 50" in found["score"].protocol


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("hubq_charts", "relaxed_accuracy"),
        ("hubq_documents", "anls"),
        ("hubq_choices", "circular_accuracy"),
        ("hubq_diagrams", "acc"),
        ("hubq_yes_no", "acc"),
    ],
)
def test_a_task_counts_in_the_mean_by_its_share_of_right_answers(name: str, metric: str) -> None:
    found = measured(name, lambda prompt: "")
    right = Outcome(
        **dict(found) | {"scores": tuple(each.model_copy(update=ALL) for each in found.scores)}
    )

    mean = overall([(name, matched(right, right, seed=0))])

    assert mean is not None
    assert mean.accuracies == (f"{name} {metric}",)


ALL = {"value": 1.0, "items": (1.0,) * 20, "stderr": 0.0, "strata": ()}


def summed(*strata: Sequence[float]) -> Score:
    """Return a sum of the means of some strata."""
    places = (place for place, some in enumerate(strata) for _ in some)
    return scored("perception", tuple(value for some in strata for value in some), tuple(places))


def scored(metric: str, items: tuple[float, ...], strata: tuple[int, ...] = ()) -> Score:
    """Return a score that is made of these items."""
    number = Number(metric, items, (), strata=strata)
    return Score(
        task="made up",
        dataset="made up",
        metric=metric,
        better="higher",
        dimension="knowledge",
        value=number.value,
        stderr=stderr(number),
        samples=len(items),
        protocol="",
        version="",
        items=items,
        strata=strata,
    )


def test_the_error_of_a_sum_is_that_of_its_strata() -> None:
    # Variances of 5,000 over 2 items and of 10,000 over 3: sqrt(2500 + 10000 / 3).
    found = summed((100, 200), (0, 100, 200))

    assert found.value == 250
    assert found.stderr == pytest.approx(math.sqrt(2500 + 10_000 / 3))


def test_a_sum_is_drawn_stratum_by_stratum() -> None:
    # Within each stratum base and result differ by the same, so that chance has nothing to add,
    # though the strata differ by a lot and have different sizes.
    base = summed((100, 150) * 10, (50, 200) * 4)
    own = summed((90, 140) * 10, (30, 180) * 4)

    found = measurement(Matched(base, own, seed=0))

    assert found.paired
    assert found.difference is not None
    assert found.difference.value == -30
    assert (found.difference.low, found.difference.high) == pytest.approx((-30, -30))
    assert found.recovery is not None
    assert found.recovery.value == pytest.approx(220 / 250)
    assert found.recovery.low is not None


def test_the_interval_of_a_sum_is_as_wide_as_its_error() -> None:
    base = summed((0, 200) * 100, (0, 200) * 50)
    own = summed((200, 0) * 100, (200, 200) * 50)

    found = measurement(Matched(base, own, seed=0)).difference

    # Pairs differ by +-200 and by 0 or 200: variances of 40,000 and of 10,000.
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    wanted = 2 * 1.96 * math.sqrt(40_000 / 200 + 10_000 / 100)
    assert found.high - found.low == pytest.approx(wanted, rel=0.05)


def test_nothing_is_known_of_a_stratum_of_one() -> None:
    found = measurement(Matched(summed((100,), (0, 50)), summed((50,), (0, 50)), seed=0))

    assert found.difference is not None
    assert found.difference.low is None
    assert not found.paired


def test_what_is_drawn_is_known_by_its_seed_and_what_is_not_isnt() -> None:
    assert asked("hubq_charts", seed=1) != asked("hubq_charts", seed=2)
    assert asked("ai2d", seed=1) == asked("ai2d", seed=2)


def test_a_score_without_a_point_is_no_list_of_wrong_answers() -> None:
    pair = compared("hubq_yes_no", lambda prompt: "#", lambda prompt: "?")["score"]

    found = measurement(pair)

    assert (found.value, found.flips, found.difference) == (0, None, Interval(value=0))


def test_a_task_goes_to_another_process_and_comes_back() -> None:
    task = asked("mme")

    assert read(task.model_dump(mode="json")) == task
    assert task.writes
    assert (task.online, asked("hubq_charts").online) == (True, False)


def test_progress_counts_every_question() -> None:
    recorder = Recorder()

    scores(asked("hubq_yes_no", limit=3), lambda picture, prompt: "no", recorder)

    assert recorder.totals == recorder.steps == {"hubq_yes_no": 6}
