"""A score of the result beside its base's: paired items, how they differ, by how much chance.

The data of a task on the Hub can move between two runs, so that an outcome that is remembered of
one side is about other items than what is measured of the other side today: then the older one is
measured again.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from hubq.errors import UserError
from hubq.records.report import (
    CONFIDENCE,
    OVERFLOW,
    Flips,
    Interval,
    LeftOut,
    Measurement,
    Overall,
)
from hubq.stages.evaluate.bootstrap import (
    Draws,
    Floats,
    draw,
    interval,
    is_right_or_wrong,
    mcnemar,
    ratio,
)
from hubq.stages.evaluate.measure import Pair, outcome_file
from hubq.stages.evaluate.measurements.choice import ChoiceTask
from hubq.stages.evaluate.task import Outcome, Score, Task

# The accuracy by which a task counts in the overall mean: the first of these that it has, whatever
# filter (in parentheses) reads its answers.
ACCURACIES = (
    "acc_norm",
    "acc",
    "exact_match",
    "mc2",
    *("relaxed_accuracy", "anls", "circular_accuracy"),  # on pictures, shares all of them
    "prompt_level_strict_acc",
)
ITEMS = ("dataset", "version", "samples", "chance")  # what tells of a score which items it is of


@dataclass(frozen=True)
class Matched:
    """One metric of the base and of the result, on the same items."""

    base: Score
    own: Score
    seed: int

    def __post_init__(self) -> None:
        assert (self.base.task, self.base.metric) == (self.own.task, self.own.metric)

    @cached_property
    def draws(self) -> Draws | None:
        """The metric of both with other items; None: nothing is known of these."""
        return draw(self.base, self.own, self.seed)

    @property
    def paired(self) -> bool:
        """Whether intervals come from pairs of the same items."""
        return self.draws is not None and self.draws.paired


def measurement(pair: Matched) -> Measurement:
    """Put a score of the result beside its base's."""
    base, own = pair.base, pair.own
    found = flips(pair)
    return Measurement(
        **own.model_dump(exclude={"items", "strata", "answers"}),
        base=base.value,
        base_stderr=base.stderr,
        difference=difference(pair),
        recovery=recovery(pair),
        paired=pair.paired,
        flips=found,
        p_value=mcnemar(found.lost, found.won) if found and pair.paired else None,
    )


def difference(pair: Matched) -> Interval:
    """Return how far the result is from its base."""
    value = pair.own.value - pair.base.value
    if pair.draws is None:
        return Interval(value=value)
    return interval(value, pair.draws.own - pair.draws.base)


def recovery(pair: Matched) -> Interval | None:
    """Return the share of the base's quality that is left; None where there is no such share.

    A perplexity's share is the base's over the result's, and none where the base's is beyond
    numbers. Other metrics of which less is better, or
    zero, are near zero in a good model (an error, a bias), so that their ratio means nothing; nor
    does a ratio to a base that only guesses, which is one of noise.
    """
    base, own = pair.base, pair.own
    better_is_less = own.metric == "perplexity"
    if (own.better != "higher" and not better_is_less) or not above_chance(base):
        return None
    if better_is_less and base.value >= OVERFLOW:
        return None
    above, below = (base.value, own.value) if better_is_less else (own.value, base.value)
    if below <= 0 or above < 0:
        return None
    if pair.draws is None:
        return Interval(value=above / below)
    drawn = (pair.draws.base, pair.draws.own)
    return interval(above / below, ratio(*(drawn if better_is_less else drawn[::-1])))


def above_chance(score: Score) -> bool:
    """Tell whether a score is better than guessing beyond noise; so is one without known chance."""
    noise = CONFIDENCE * (score.stderr or 0)
    return score.chance is None or score.value - noise > score.chance


def flips(pair: Matched) -> Flips | None:
    """Count the items that are right for one model only; None where items are not right or wrong.

    Without answers all that is known to have changed is what was lost or won.
    """
    base, own = pair.base, pair.own
    if not (is_right_or_wrong(base) and is_right_or_wrong(own)):
        return None
    if len(base.items) != len(own.items):
        return None
    both = list(zip(base.items, own.items, strict=True))
    lost = sum(before > after for before, after in both)
    won = sum(before < after for before, after in both)
    if len(base.answers) == len(own.answers) == len(both):
        answers = zip(base.answers, own.answers, strict=True)
        return Flips(lost=lost, won=won, changed=sum(before != after for before, after in answers))
    return Flips(lost=lost, won=won, changed=lost + won)


def overall(tasks: Iterable[tuple[str, Sequence[Matched]]]) -> Overall | None:
    """Average one accuracy of each task of knowledge in which the base does more than guess.

    None where there is none, or the base has nothing right. Each task comes with the name that was
    asked for. One that has a score of its own counts once, however many members it has; of a mere
    list of tasks each member counts.
    """
    chosen = [pair for pair in _one_each(tasks) if _reason(pair) is None]
    base = math.fsum(pair.base.value for pair in chosen) / max(1, len(chosen))
    own = math.fsum(pair.own.value for pair in chosen) / max(1, len(chosen))
    if base == 0:
        return None
    lost, left = Interval(value=own - base), Interval(value=own / base)
    if (drawn := _mean_draws(chosen)) is not None:
        lost = interval(lost.value, drawn[1] - drawn[0])
        left = interval(left.value, ratio(drawn[1], drawn[0]))
    return Overall(
        accuracies=tuple(map(_title, chosen)),
        base=base,
        value=own,
        difference=lost,
        recovery=left,
    )


def left_out(tasks: Iterable[tuple[str, Sequence[Matched]]]) -> tuple[LeftOut, ...]:
    """Name the accuracies that `overall` does not take, each with the reason."""
    found = ((_title(pair), _reason(pair)) for pair in _one_each(tasks))
    return tuple(LeftOut(accuracy=title, reason=reason) for title, reason in found if reason)


def _reason(pair: Matched) -> Literal["guessing", "alignment"] | None:
    """Say why an accuracy is left out of the mean, if it is."""
    if pair.base.dimension == "alignment":
        return "alignment"
    return None if above_chance(pair.base) else "guessing"


def _title(pair: Matched) -> str:
    """Name an accuracy."""
    return f"{pair.own.task} {pair.own.metric}"


def _one_each(tasks: Iterable[tuple[str, Sequence[Matched]]]) -> list[Matched]:
    """Choose one accuracy of each task."""
    return [pair for name, pairs in tasks for pair in _accuracies(name, pairs)]


def _accuracies(name: str, pairs: Sequence[Matched]) -> list[Matched]:
    """Choose one accuracy of a task, or of each of its members where it has no score itself."""
    members = dict.fromkeys(pair.own.task for pair in pairs)
    wanted = [name] if name in members else members
    found = []
    for task in wanted:
        known = {pair.own.metric: pair for pair in reversed(pairs) if pair.own.task == task}
        ranked = (each for name in ACCURACIES for each in known if each.partition(" (")[0] == name)
        found += [known[metric] for metric in ranked][:1]
    return found


def _mean_draws(pairs: Sequence[Matched]) -> tuple[Floats, Floats] | None:
    """Average the draws of several tasks; None where one of them has none."""
    drawn = [pair.draws for pair in pairs if pair.draws is not None]
    if len(drawn) < len(pairs):
        return None
    return (
        np.mean([each.base for each in drawn], axis=0),
        np.mean([each.own for each in drawn], axis=0),
    )


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
            f"{task.name}: the base and the result were asked different items "
            f"({'; '.join(found)}), so they can't be compared. The task's data changed while it "
            "was measured: run again, or use a task whose data comes in a wheel (hubq_...)"
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
