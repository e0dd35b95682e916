"""The one spelling of numbers: cards, tables and messages write a value the same way."""

import math

from hubq.records.report import (
    CONFIDENCE,
    OVERFLOW,
    Decoding,
    Efficiency,
    Interval,
    Measured,
    Measurement,
)

NOT_MEASURED = "not measured"
NONE = "—"  # where there is no such number
LARGE = 1e15  # from here on a number is written with its power of ten
SIGNIFICANT = 0.05  # the chance that an interval of 95 % leaves


def number(value: float | None) -> str:
    """Write four significant digits, whole numbers in full."""
    if value is None:
        return NOT_MEASURED
    if abs(value) >= LARGE:
        return _power(value)
    if abs(value) >= 999.95 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:#.4g}"


def uncertain(value: float, stderr: float | None) -> str:
    """Write a value with its standard error, where one is known."""
    if stderr is None:
        return number(value)
    return f"{number(value)} ± {f'{stderr:.2g}' if stderr < 9.95 else f'{stderr:,.0f}'}"


def percent(share: float | None) -> str:
    """Write a share in percent; a dash for none."""
    return NONE if share is None else f"{100 * share:.1f} %"


def share(part: Interval | None) -> str:
    """Write a share in percent with its 95 % interval, where one is known; a dash for none."""
    if part is None:
        return NONE
    return f"{percent(part.value)}{_between(*(_hundredfold(each) for each in _ends(part)))}"


def no_floor(measured: Measured) -> str:
    """Write why a base has no noise: noise is what parts it from float32, or was not looked at."""
    return "none, in float32" if measured.dtype == "float32" else NOT_MEASURED


def difference(measurement: Measurement) -> str:
    """Write how far the result is from its base, with the interval of that where it is known."""
    known = measurement.difference
    return signed(known or Interval(value=measurement.value - measurement.base))


def signed(part: Interval) -> str:
    """Write a difference with its sign and its 95 % interval, where one is known.

    There are as many decimals as say something: two digits of the interval's width.
    """
    value, (low, high) = part.value, _ends(part)
    doubt = abs(value) / 10 if low is None or high is None else high - low
    decimals = max(0, 1 - math.floor(math.log10(doubt))) if doubt else 0
    ends = (None if each is None else _signed(each, decimals) for each in (low, high))
    return f"{_signed(value, decimals) if value else '0'}{_between(*ends)}"


def _signed(value: float, decimals: int) -> str:
    return f"{value:+,.{decimals}f}" if abs(value) < LARGE else _power(value, sign="+")


def _power(value: float, sign: str = "") -> str:
    """Write a number with more digits than anybody reads."""
    if value >= OVERFLOW:
        return f"over {sign}{OVERFLOW:.0e}"
    return f"{value:{sign}.4g}"


def _ends(interval: Interval) -> tuple[float | None, float | None]:
    return interval.low, interval.high


def _between(low: str | None, high: str | None) -> str:
    return "" if low is None or high is None else f" ({low} to {high})"


def _hundredfold(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f}"


def within_noise(measurement: Measurement) -> bool | None:
    """Tell whether the difference to the base is as small as chance makes it; None: unknown.

    Where both models answered the same items the noise is that of their pairs, and McNemar's test
    has to agree where there is one. Else the two errors are taken as independent: what is
    called noise may then be a difference, never the reverse.
    """
    if measurement.better == "zero":
        return _is_as_far_from_zero(measurement)
    known = measurement.difference
    if known is not None and known.low is not None and known.high is not None:
        by_chance = measurement.p_value is not None and measurement.p_value > SIGNIFICANT
        return by_chance or known.low <= 0 <= known.high
    if measurement.paired and measurement.value == measurement.base:
        return True
    if measurement.stderr is None or measurement.base_stderr is None:
        return None
    noise = math.hypot(measurement.stderr, measurement.base_stderr)
    return abs(measurement.value - measurement.base) <= CONFIDENCE * noise


def _is_as_far_from_zero(measurement: Measurement) -> bool | None:
    """Tell whether base and result are as far from zero as chance makes them; None: unknown.

    Values on both sides of zero may differ more than their distances from it do.
    """
    known = measurement.difference
    if known is not None and known.low is not None and known.high is not None:
        noise = (known.high - known.low) / 2
    elif measurement.stderr is not None and measurement.base_stderr is not None:
        noise = CONFIDENCE * math.hypot(measurement.stderr, measurement.base_stderr)
    else:
        return None
    return abs(abs(measurement.value) - abs(measurement.base)) <= noise


def judged(measurement: Measurement) -> str:
    """Say in a word what a difference is: never a loss or a win where chance explains it."""
    if (noise := within_noise(measurement)) is None:
        return "noise not known"
    if noise:
        return "within noise"
    if measurement.better == "zero":
        return "better" if abs(measurement.value) < abs(measurement.base) else "worse"
    grew = measurement.value > measurement.base
    return "better" if grew == (measurement.better == "higher") else "worse"


def ranged(interval: Interval | None) -> str:
    """Write a value with its 95 % interval, where one is known."""
    if interval is None or interval.low is None or interval.high is None:
        return number(None if interval is None else interval.value)
    return f"{number(interval.value)} ({number(interval.low)} to {number(interval.high)})"


def how_decoded(costs: Efficiency) -> str:
    """Say how a GPU decoded and whether launches held it up; nothing of a CPU."""
    sides = {"the base": costs.base.decoding, "this model": costs.result.decoding}
    known = {name: each for name, each in sides.items() if each is not None}
    if not known:
        return ""
    launched = [f"{name} ({each.reason})" for name, each in known.items() if not each.graph]
    how = (
        f"Each kernel of a step was launched anew for {' and '.join(launched)}."
        if launched
        else "A step of decoding was recorded once, as a CUDA graph, and replayed."
    )
    return f"{how} {_held_up(known)}"


def _held_up(known: dict[str, Decoding]) -> str:
    """Say which model's decoding was bound by launches."""
    told = {name: each for name, each in known.items() if each.bound_by_launches is not None}
    if not told:
        return f"Whether it was bound by launches was {NOT_MEASURED}."
    bound = [name for name, each in told.items() if each.bound_by_launches]
    shares = " and ".join(
        f"{percent((each.busy_seconds or 0) / each.step_seconds)} for {name}"
        for name, each in told.items()
    )
    verdict = (
        f"Decoding of {' and '.join(bound)} was bound by launches: such a speed says little of the "
        "weights' format."
        if bound
        else "Decoding was not bound by launches."
    )
    return f"The GPU computed in {shares} of the time of a step. {verdict}"
