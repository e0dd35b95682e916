"""What chance would make of other items: a metric of both models, drawn again and again.

Both models answered the same items, and an item that is hard for one is hard for the other. So
items are drawn in pairs, with replacement, and each draw of as many items as there were gives the
metric of both models once more (the paired bootstrap). All intervals are read off these draws: that
of a difference, of a ratio, and of a mean over several tasks, each of which is drawn on its own.

Two corrections keep the intervals honest where items are few or nearly all alike:

- Right or wrong (0 and 1). Only four kinds of pairs exist, so a draw is one of a multinomial
  distribution. Where no item flipped, no draw would flip either, and the interval would have no
  width, though that few flips in n items is what a rate of up to 3 / n looks like too. As in Bonett
  and Price (2012, J. Educ. Behav. Stat. 37, 479; recommended by Fagerland, Lydersen and Laake 2014,
  Stat. Med. 33, 2850), one item that was lost and one that was won are imagined beside the n: with
  no flips the interval of the difference is about -3 / n to 3 / n.
- Any other values. The spread of the draws is too small by sqrt((n - 1) / n), and a normal
  distribution's 95 % are too few standard errors when their size is itself estimated from n
  items. As in Hesterberg (2015, Am. Stat. 69, 371, on the expanded percentile interval), draws
  are moved away from the mean by sqrt(n / (n - 1)) and Student's over the normal quantile.

A sum of means (MME's, over its categories) is drawn category by category, as its items were chosen.

Where a metric is no mean over items (BLEU, a bias score) both models' standard errors are all that
is known: they are drawn as independent and normal, which is wider than pairs would be.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from hubq.records.report import CONFIDENCE, OVERFLOW, Interval
from hubq.stages.evaluate.task import Score

RESAMPLES = 10_000
TAILS = (0.025, 0.975)
AT_ONCE = 1 << 20  # items that are drawn together: what bounds the memory

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """A metric of both models, with other items each time."""

    base: Floats  # (resamples,)
    own: Floats  # (resamples,)
    paired: bool  # whether both had the same items each time


def draw(base: Score, own: Score, seed: int) -> Draws | None:
    """Draw a metric of both models; None where there are neither items nor standard errors.

    The draws of a metric depend on the seed and its name alone, not on what else is measured.
    """
    random = _generator(own, seed)
    if own.strata and own.strata == base.strata:
        return _of_strata(base, own, random)
    if is_mean_of_items(base) and is_mean_of_items(own) and len(base.items) == len(own.items):
        pairs = np.array([base.items, own.items])
        before, after = _unscaled(own, _resampled(pairs, random))
        return Draws(before, after, paired=True)
    if base.stderr is None or own.stderr is None:
        return None
    noise = random.standard_normal((2, RESAMPLES))
    return Draws(base.value + base.stderr * noise[0], own.value + own.stderr * noise[1], False)


def _of_strata(base: Score, own: Score, random: np.random.Generator) -> Draws | None:
    """Draw the items of each stratum on their own; None where one has a single item."""
    pairs, strata = np.array([base.items, own.items]), np.array(own.strata)
    found = [pairs[:, strata == each] for each in dict.fromkeys(own.strata)]
    if any(each.shape[1] < 2 for each in found):
        return None
    before, after = np.sum([_of_values(each, random) for each in found], axis=0)
    return Draws(before, after, paired=True)


def is_right_or_wrong(score: Score) -> bool:
    """Tell whether every item counts as one or nothing; one of a sum counts as more."""
    return bool(score.items) and not score.strata and set(score.items) <= {0.0, 1.0}


def is_mean_of_items(score: Score) -> bool:
    """Tell whether a number is what its items give, so that other items would give another."""
    if len(score.items) < 1:
        return False
    mean = np.array([math.fsum(score.items) / len(score.items)])
    return math.isclose(_unscaled(score, mean)[0], score.value, rel_tol=1e-6, abs_tol=1e-9)


def interval(value: float, drawn: Floats) -> Interval:
    """Return a value with the middle 95 % of its draws.

    Bounds that coincide or aren't finite are not known rather than certain: such draws tell nothing
    of other items.
    """
    low, high = (float(each) for each in np.quantile(drawn, TAILS, method="closest_observation"))
    if not math.isfinite(low) or not math.isfinite(high) or low == high:
        return Interval(value=value)
    return Interval(value=value, low=min(low, value), high=max(high, value))


def ratio(above: Floats, below: Floats) -> Floats:
    """Divide draws; where there is nothing to divide by, the ratio is infinite."""
    infinite = np.full_like(above, np.inf)
    return np.divide(above, below, out=infinite, where=below > 0)


def student(count: int) -> float:
    """Return how many standard errors around a mean of so many values hold 95 %, by Student's t."""
    from scipy.stats import t

    return float(t.ppf(TAILS[1], count - 1))


def _generator(score: Score, seed: int) -> np.random.Generator:
    """Seed the draws of one metric."""
    name = f"{score.task}\n{score.metric}\n{score.dataset}"
    return np.random.default_rng([seed, int.from_bytes(sha256(name.encode()).digest()[:8])])


def _unscaled(score: Score, means: Floats) -> Floats:
    """Turn means of items into the metric: a perplexity's items are losses."""
    if score.metric != "perplexity":
        return means
    exponential: Floats = np.exp(np.minimum(means, math.log(OVERFLOW)))
    return np.minimum(exponential, OVERFLOW)


def _resampled(pairs: Floats, random: np.random.Generator) -> Floats:  # pairs: (2, items)
    """Return the mean of both rows over drawn items, (2, resamples)."""
    if np.isin(pairs, (0.0, 1.0)).all():
        return _of_cells(pairs, random)
    return _of_values(pairs, random)


def _of_values(pairs: Floats, random: np.random.Generator) -> Floats:  # pairs: (2, items)
    """Draw items whatever their values are."""
    count = pairs.shape[1]
    if count < 2:
        return np.repeat(pairs, RESAMPLES, axis=1)
    mean: Floats = pairs.mean(axis=1, keepdims=True)
    parts = [pairs[:, which].mean(axis=2) for which in _picked(count, random)]
    means: Floats = np.concatenate(parts, axis=1)
    expanded: Floats = mean + _expansion(count) * (means - mean)
    return expanded


def _of_cells(pairs: Floats, random: np.random.Generator) -> Floats:  # pairs: (2, items)
    """Draw how many items both, only one, and neither model has right."""
    before, after = pairs.astype(bool)
    cells = np.array(
        [(before & after).sum(), (before & ~after).sum() + 1, (~before & after).sum() + 1]
    )
    count = pairs.shape[1] + 2  # the two that are imagined
    shares = [*(cells / count), (count - cells.sum()) / count]
    both, lost, won, _ = random.multinomial(count, shares, RESAMPLES).T
    right: Floats = np.array([both + lost, both + won], dtype=np.float64)
    right /= count
    return right


def _picked(count: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of the drawn items, (some resamples, items)."""
    rows = max(1, AT_ONCE // count)
    for first in range(0, RESAMPLES, rows):
        yield random.integers(0, count, (min(rows, RESAMPLES - first), count))


def _expansion(count: int) -> float:
    """Say by how much draws of so many items are too close to their mean."""
    return math.sqrt(count / (count - 1)) * student(count) / CONFIDENCE


def mcnemar(lost: int, won: int) -> float:
    """Return how often so uneven a split of flips, or a more uneven one, comes by chance alone.

    The exact test of McNemar (1947, Psychometrika 12, 153): where nothing changed but by chance,
    each item that flipped is as likely to have been lost as won.
    """
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0
