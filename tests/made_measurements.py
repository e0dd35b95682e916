"""Measurements and entries made up for tests."""

from typing import Any

from made_run import made_report

from hubq.records.report import (
    Assessment,
    Cost,
    Divergence,
    Efficiency,
    Fidelity,
    Interval,
    Overall,
    Subject,
)
from hubq.stages.compare.comparison import Entry

OVERALL = Overall(
    accuracies=("piqa acc_norm",),
    base=0.68,
    value=0.65,
    difference=Interval(value=-0.03, low=-0.05, high=-0.01),
    recovery=Interval(value=0.956, low=0.93, high=0.98),
)
FIDELITY = Fidelity(
    dataset="xsum",
    version="1",
    protocol="windows",
    result=Divergence(
        tokens=10,
        mean=Interval(value=0.0512),
        median=0.03,
        percentile_99=0.4,
        agreement=Interval(value=0.9),
    ),
    floor=None,
)
COST = Cost(
    weight_bytes=100_000_000,
    load_seconds=1.2,
    memory_loaded=1_000_000_000,
    memory_peak=2_000_000_000,
    first_token_seconds=Interval(value=0.12),
    tokens_per_second=Interval(value=12.34),
)
EFFICIENCY = Efficiency(
    batch=1,
    prompt=64,
    output=32,
    repetitions=3,
    engine="transformers 5.2, bfloat16, 1 thread",
    hardware="Imaginary 9000",
    base=COST,
    result=COST,
)


def made_entry(name: str, bits: float | None = 4.0, **changes: Any) -> Entry:
    """Return a model of so many stored bits."""
    values: dict[str, Any] = {
        "name": name,
        "base": "acme/Base",
        "method": "rtn",
        "form": "compressed-tensors",
        "nominal_bits": bits,
        "stored_bits": bits,
        "model_bits": (bits or 4.0) + 2,
        "weight_bytes": 1000,
        "perplexities": {"xsum": 30.0},
        "base_perplexities": {"xsum": 26.0},
        "recovery": None,
        "divergence": None,
        "agreement": None,
        "tokens_per_second": None,
        "base_tokens_per_second": None,
    }
    return Entry.model_validate({**values, **changes})


def assessed(base: str) -> Assessment:
    """Return what was measured of a stranger's model."""
    values = made_report().model_dump(exclude={"plan", "checkpoint"})
    subject = Subject(
        name="ann/Tiny@1234", form="gptq", weight_bytes=12, parameters=24, model_bits=4.5
    )
    return Assessment(
        **values, subject=subject, base=subject.model_copy(update={"name": base, "model_bits": 16})
    )
