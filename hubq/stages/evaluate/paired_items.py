"""Outcomes of a model and its base side by side: on the same items, or measured again.

The data of a task on the Hub can move between two runs, so that an outcome that is remembered of
one side is about other items than what is measured of the other side today.
"""

from collections.abc import Iterator, Sequence

from hubq.errors import UserError
from hubq.stages.evaluate.measure import Pair, outcome_file
from hubq.stages.evaluate.measurements.choice import ChoiceTask
from hubq.stages.evaluate.paired_difference import Matched
from hubq.stages.evaluate.task import Outcome, Score, Task

ITEMS = ("dataset", "version", "samples", "chance")  # what tells of a score which items it is of


def matched_outcomes(
    pair: Pair, tasks: Sequence[Task], own: Sequence[Outcome]
) -> Iterator[tuple[Task, Outcome, Outcome]]:
    """Measure the base; yield each task with the outcome of the base and that of the result.

    Where a task's items changed since one side was measured, that side is measured again. Raises
    UserError where they change while they are measured.
    """
    base = pair.of_base(*tasks)
    for task, before, after in zip(tasks, base, own, strict=True):
        if isinstance(task, ChoiceTask):
            yield task, *_on_the_same_items(pair, task, before, after)
        else:
            yield task, before, after


def _on_the_same_items(
    pair: Pair, task: ChoiceTask, base: Outcome, own: Outcome
) -> tuple[Outcome, Outcome]:
    """Return the outcomes of base and result, each measured again where it is the stale one."""
    for _ in (base, own):  # both may be stale
        if not changes(base, own):
            break
        files = [outcome_file(folder, task, pair.where) for folder in (pair.base, pair.result)]
        min(files, key=lambda file: file.stat().st_mtime_ns).unlink()
        (base,), (own,) = pair.of_base(task), pair.of_result(task)
    refuse_changes(task, base, own)
    return base, own


def refuse_changes(task: ChoiceTask, base: Outcome, own: Outcome) -> None:
    """Raise UserError where base and result were asked other items."""
    if found := changes(base, own):
        raise UserError(
            f"{task.name}: the base and the result were asked other items ({'; '.join(found)}), so "
            "they can't be compared. The task's data changed while it was measured: run again, or "
            "take a task whose data comes in a wheel (hubq_...)"
        )


def changes(base: Outcome, own: Outcome) -> list[str]:
    """Say in what the items of two outcomes of one task differ."""
    return list(
        dict.fromkeys(
            f"{what} {getattr(before, what)} became {getattr(after, what)}"
            for before, after in _both(base, own)
            for what in ITEMS
            if getattr(before, what) != getattr(after, what)
        )
    )


def matched(base: Outcome, own: Outcome, seed: int) -> list[Matched]:
    """Put the scores of one task side by side; a number that one side lacks has no place there."""
    return [Matched(before, after, seed) for before, after in _both(base, own)]


def _both(base: Outcome, own: Outcome) -> Iterator[tuple[Score, Score]]:
    """Yield the scores of two outcomes that are of the same task and metric."""
    known = {(each.task, each.metric): each for each in base.scores}
    for after in own.scores:
        if (before := known.get((after.task, after.metric))) is not None:
            yield before, after
