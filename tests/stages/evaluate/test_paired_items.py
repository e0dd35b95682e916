"""Outcomes of a base and a result belong together only where they are of the same items."""

import pytest

from hubq.errors import UserError
from hubq.stages.evaluate.measurements.choice import harness_task
from hubq.stages.evaluate.paired_difference import changes, matched, refuse_changes
from hubq.stages.evaluate.task import Outcome, Score


def outcome(*metrics: str, **changed: object) -> Outcome:
    values = {
        "task": "piqa",
        "dataset": "piqa",
        "better": "higher",
        "dimension": "knowledge",
        "value": 0.5,
        "stderr": None,
        "samples": 2,
        "protocol": "0-shot",
        "version": "1",
    }
    scores = [Score.model_validate({**values, **changed, "metric": each}) for each in metrics]
    return Outcome(scores=tuple(scores), loader="transformers", seconds=1.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"value": 0.1}, []),
        ({"version": "2"}, ["version 1 became 2"]),
        ({"samples": 3, "chance": 0.5}, ["samples 2 became 3", "chance None became 0.5"]),
    ],
)
def test_it_is_said_in_what_the_items_differ(changed: dict[str, object], said: list[str]) -> None:
    assert changes(outcome("acc", "acc_norm"), outcome("acc", "acc_norm", **changed)) == said


def test_a_number_that_one_side_lacks_is_not_compared() -> None:
    found = matched(outcome("acc", "bias"), outcome("bias", "acc", "other"), seed=0)

    assert [pair.own.metric for pair in found] == ["bias", "acc"]


def test_other_items_are_refused_with_what_changed() -> None:
    with pytest.raises(UserError, match=r"piqa: .* different items \(version 1 became 2\), so"):
        refuse_changes(harness_task("piqa"), outcome("acc"), outcome("acc", version="2"))
