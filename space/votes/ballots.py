"""Blind comparisons, the votes on them, and who wins how often.

Who is left and who is right stays on the server until there is a vote: the browser gets an id that
is drawn at random and says nothing. Whoever draws the sides may be replaced in tests; by default
it is the system's own source, which no visitor can foresee.
"""

import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from math import sqrt
from random import Random, SystemRandom
from threading import Lock
from time import monotonic
from typing import Literal, get_args

from pydantic import ValidationError

from hubq.errors import UserError
from hubq.records.record import Record

ID_BYTES = 18
Choice = Literal["left", "right", "tie", "both bad"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

logger = logging.getLogger(__name__)
Z = 1.959964  # standard errors on each side of 95 % of a normal distribution


class Ballot(Record):
    """A comparison of two models, by name, whose sides are drawn."""

    id: str
    left: str
    right: str
    settings: Mapping[str, int | float]
    prompt: str


class Ballots:
    """So many open comparisons, the oldest given up for the newest, each for some time."""

    def __init__(
        self,
        *,
        most: int = 1000,
        seconds: float = 3600.0,
        random: Random | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.most = most
        self.seconds = seconds
        self._random = random or SystemRandom()
        self._clock = clock
        self._lock = Lock()
        self._open: OrderedDict[str, tuple[float, Ballot]] = OrderedDict()  # oldest first

    def draw(
        self, one: str, other: str, settings: Mapping[str, int | float], prompt: str
    ) -> Ballot:
        """Open a comparison of two models with the sides in random order."""
        if one == other:
            raise UserError(f"{one} can't be compared with itself: choose another model")
        with self._lock:
            left, right = self._random.sample((one, other), 2)
            ballot = Ballot(
                id=secrets.token_urlsafe(ID_BYTES),
                left=left,
                right=right,
                settings=settings,
                prompt=prompt,
            )
            self._open[ballot.id] = (self._clock(), ballot)
            self._forget()
            return ballot

    def find(self, id: str) -> Ballot:
        """Return an open comparison; raise UserError when there is none (any more)."""
        with self._lock:
            self._forget()
            if id not in self._open:
                raise UserError(
                    "this comparison is over: it already has a vote, or it waited "
                    "too long. Begin a new one"
                )
            return self._open[id][1]

    def close(self, id: str) -> None:
        """Forget a comparison that has its vote."""
        with self._lock:
            self._open.pop(id, None)

    def _forget(self) -> None:
        """Give up what is too old or too much."""
        oldest = self._clock() - self.seconds
        while self._open:
            began, _ = next(iter(self._open.values()))
            if began > oldest and len(self._open) <= self.most:
                return
            self._open.popitem(last=False)


class Vote(Record):
    """What a visitor thought of two answers. The prompt is kept only with the visitor's consent."""

    comparison: str
    left: str
    right: str
    choice: Choice
    settings: Mapping[str, int | float]
    prompt: str | None
    time: datetime

    @classmethod
    def on(cls, ballot: Ballot, choice: Choice, *, with_prompt: bool) -> "Vote":
        """Make the vote on a comparison."""
        return cls(
            comparison=ballot.id,
            left=ballot.left,
            right=ballot.right,
            choice=choice,
            settings=ballot.settings,
            prompt=ballot.prompt if with_prompt else None,
            time=datetime.now(UTC),
        )

    @classmethod
    def read(cls, line: str) -> "Vote | None":
        """Read a kept vote; None, and a word in the log, for a person's or another hubq's line."""
        try:
            return cls.model_validate_json(line)
        except ValidationError:
            logger.warning("what was kept is no vote of this version: %.80s", line)
            return None


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
    """Return a standing for each model with votes, the highest rate first.

    A model's win rate is (wins + half of the ties) / comparisons; "both bad" is a tie. Its 95 %
    interval is Wilson's, which holds for few votes and near 0 and 1. A tie counts as half a success
    in it, though it varies less than wins and losses do, so the interval is rather too wide than
    too narrow. Whom a model met is not weighed, as Bradley and Terry do: visitors choose the pairs,
    and with few votes such a fit is not determined. So compare models that met the same others.
    """
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
