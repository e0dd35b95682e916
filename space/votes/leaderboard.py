"""Who wins how often in blind comparisons, with how much certainty.

A model's win rate is (wins + half of the ties) / comparisons; "both bad" is a tie. Its 95 %
interval is Wilson's, which holds for few votes and near 0 and 1. A tie counts as half a success in
it, though it varies less than wins and losses do, so the interval is rather too wide than too
narrow. Whom a model met is not weighed, as Bradley and Terry do: visitors choose the pairs, and
with few votes such a fit is not determined. So compare models that met the same others.
"""

from collections import Counter
from collections.abc import Iterable
from math import sqrt

from hubq.record import Record
from votes.votes import Vote

Z = 1.959964  # standard errors on each side of 95 % of a normal distribution


class Standing(Record):
    """A model's place: counts, and the win rate with its interval."""

    model: str
    votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int
    rate: float
    low: float
    high: float


def leaderboard(votes: Iterable[Vote]) -> list[Standing]:
    """Return a standing for each model with votes, the highest rate first."""
    counts: dict[str, Counter[str]] = {}
    for vote in votes:
        for side, model, other in (("left", vote.left, "right"), ("right", vote.right, "left")):
            outcome = {side: "win", other: "loss"}.get(vote.choice, vote.choice)
            counts.setdefault(model, Counter())[outcome] += 1
    standings = [_standing(model, count) for model, count in counts.items()]
    return sorted(standings, key=lambda each: (-each.rate, -each.votes, each.model))


def _standing(model: str, count: Counter[str]) -> Standing:
    total = count.total()
    score = count["win"] + (count["tie"] + count["both bad"]) / 2
    low, high = wilson(score, total)
    return Standing(
        model=model,
        votes=total,
        wins=count["win"],
        losses=count["loss"],
        ties=count["tie"],
        both_bad=count["both bad"],
        rate=score / total,
        low=low,
        high=high,
    )


def wilson(successes: float, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Wilson 1927, without continuity correction)."""
    rate = successes / total
    middle = (rate + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z / (1 + Z**2 / total) * sqrt(rate * (1 - rate) / total + Z**2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)
