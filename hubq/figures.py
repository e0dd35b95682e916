"""The one spelling of numbers: cards, tables and messages write a value the same way."""

import math

from hubq.evaluate.report import CONFIDENCE, Measurement

NOT_MEASURED = "not measured"


def number(value: float | None) -> str:
    """Write four significant digits, whole numbers in full."""
    if value is None:
        return NOT_MEASURED
    if abs(value) >= 999.95 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:#.4g}"


def uncertain(value: float, stderr: float | None) -> str:
    """Write a value with its standard error, where one is known."""
    if stderr is None:
        return number(value)
    return f"{number(value)} ± {f'{stderr:.2g}' if stderr < 9.95 else f'{stderr:,.0f}'}"


def recovery(measurement: Measurement) -> float | None:
    """Return the share of the base's quality that is left: 1 when nothing was lost."""
    better, worse = measurement.value, measurement.base
    if measurement.better == "lower":
        better, worse = worse, better
    return better / worse if worse else None


def percent(share: float | None) -> str:
    """Write a share in percent."""
    return "not defined" if share is None else f"{100 * share:.1f} %"


def within_noise(measurement: Measurement) -> bool | None:
    """Tell whether the difference to the base is as small as chance makes it; None: unknown.

    Where the same windows were scored by both, the noise is that of the paired differences. Else
    the two errors are taken as independent, though both models answer the same items: what is
    called noise may then be a difference, never the reverse.
    """
    known = measurement.difference
    if known is not None and known.low is not None and known.high is not None:
        return known.low <= 0 <= known.high
    if measurement.stderr is None or measurement.base_stderr is None:
        return None
    noise = math.hypot(measurement.stderr, measurement.base_stderr)
    return abs(measurement.value - measurement.base) <= CONFIDENCE * noise
