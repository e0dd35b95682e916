"""Models side by side: what each takes and what it keeps, and which of them are the front.

An entry is a model in one row, from its report alone. On the Pareto front are the models to which
no other is at least as good at no more stored bits: every reason to take another lies elsewhere.
"""

from collections.abc import Iterable, Sequence

from hubq.evaluate.report import Assessment, Interval, Measured, Report
from hubq.record import Record


class Entry(Record):
    """One model in a table of several."""

    name: str  # org/name, or a folder's name
    base: str  # the base's Hub id or identity: only entries of one base are comparable
    method: str  # the method's name in recipes; unknown for a model of strangers
    form: str  # the format on disk
    nominal_bits: float | None  # by which the method's paper calls it
    stored_bits: float | None  # a weight of the quantized linears, counted from the bytes
    model_bits: float  # a parameter of the whole file
    weight_bytes: int
    perplexities: dict[str, float]  # by data set
    base_perplexities: dict[str, float]
    recovery: Interval | None  # of the mean accuracy
    divergence: float | None  # mean KL divergence from the base, nats
    agreement: float | None  # share of tokens with the same likeliest next one
    tokens_per_second: float | None
    base_tokens_per_second: float | None


def entry(measured: Measured) -> Entry:
    """Put a report in one row."""
    perplexities = [each for each in measured.measurements if each.metric == "perplexity"]
    fidelity, efficiency = measured.fidelity, measured.efficiency
    return Entry(
        **_files(measured),
        perplexities={each.dataset: each.value for each in perplexities},
        base_perplexities={each.dataset: each.base for each in perplexities},
        recovery=measured.overall.recovery if measured.overall else None,
        divergence=fidelity.result.mean.value if fidelity else None,
        agreement=fidelity.result.agreement.value if fidelity else None,
        tokens_per_second=efficiency.result.tokens_per_second.value if efficiency else None,
        base_tokens_per_second=efficiency.base.tokens_per_second.value if efficiency else None,
    )


def _files(measured: Measured) -> dict[str, object]:
    """Say what a model is and takes: by its plan, or by its files."""
    if isinstance(measured, Report):
        plan, checkpoint = measured.plan, measured.checkpoint
        return {
            "name": plan.repo,
            "base": plan.base_model or plan.source,
            "method": plan.recipe["method"]["name"],
            "form": plan.recipe["format"],
            "nominal_bits": plan.nominal_bits,
            "stored_bits": checkpoint.linear_bits,
            "model_bits": checkpoint.model_bits,
            "weight_bytes": checkpoint.weight_bytes,
        }
    assert isinstance(measured, Assessment), "there are two kinds of what was measured"
    subject = measured.subject
    return {
        "name": subject.name,
        "base": measured.base.name,
        "method": "unknown",
        "form": subject.form,
        "nominal_bits": None,
        "stored_bits": None,
        "model_bits": subject.model_bits,
        "weight_bytes": subject.weight_bytes,
    }


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Tell which of several (cost, loss) points are not dominated: less is better in both."""

    def dominated(point: tuple[float, float], others: Iterable[tuple[float, float]]) -> bool:
        return any(each != point and each[0] <= point[0] and each[1] <= point[1] for each in others)

    return [not dominated(point, points) for point in points]
