"""Reports with made-up values of all that the Space shows, and the models of such reports."""

from pathlib import Path
from typing import Any

from made_run import made_plan, made_report, measurement

from hubq.records.report import (
    Cost,
    Divergence,
    Efficiency,
    Fidelity,
    Interval,
    Measurement,
    Overall,
    Report,
)
from releases.models import Released, Weights, released

RTN, GPTQ = "acme/Tiny-Llama-RTN-4bit", "acme/Tiny-Llama-GPTQ-4bit"
BASE = "meta-llama/Meta-Llama-3-8B"


def interval(value: float, noise: float) -> Interval:
    return Interval(value=value, low=value - noise, high=value + noise)


def made_fidelity(mean: float, noise: float = 0.001, dataset: str = "xsum") -> Fidelity:
    divergence = Divergence(
        tokens=20480,
        mean=interval(mean, noise),
        median=mean / 2,
        percentile_99=mean * 9,
        agreement=interval(1 - mean, 0.004),
    )
    return Fidelity(
        dataset=dataset,
        version="sha256:5f3a",
        protocol="40 windows of 512 tokens.",
        result=divergence,
        floor=None,
    )


def made_task(task: str, base: float, value: float, noise: float = 0.02) -> Measurement:
    return measurement(
        task=task,
        dataset=f"{task}/validation",
        metric="acc",
        better="higher",
        base=base,
        base_stderr=0.01,
        value=value,
        stderr=0.01,
        recovery=interval(value / base, noise),
        paired=True,
        samples=1838,
        protocol="Zero shots.",
        version="1.0",
    )


def made_efficiency(base: float = 11.5, result: float = 17.25) -> Efficiency:
    def cost(speed: float) -> Cost:
        return Cost(
            weight_bytes=37312,
            load_seconds=1.5,
            memory_loaded=10**9,
            memory_peak=2 * 10**9,
            first_token_seconds=interval(0.2, 0.01),
            tokens_per_second=interval(speed, 0.5),
        )

    return Efficiency(
        batch=1,
        prompt=64,
        output=64,
        repetitions=3,
        engine="transformers 5.23.0",
        hardware="cpu (Imaginary 9000)",
        base=cost(base),
        result=cost(result),
    )


def full_report(
    repo: str = "acme/Llama-3-8B-GPTQ-4bit",
    bits: float = 4.0,
    stored: float = 4.3125,
    divergence: float | None = 0.031,
    **changes: Any,
) -> Report:
    """Return a report of everything."""
    method = changes.pop("method", "gptq")
    plan = made_plan(repo, nominal_bits=bits, linear_bits=stored)
    plan.recipe["method"]["name"] = method
    report = made_report(plan=plan)
    values: dict[str, Any] = {
        "checkpoint": report.checkpoint.model_copy(update={"linear_bits": stored}),
        "measurements": (
            measurement(value=29.58),
            made_task("piqa", 0.68, 0.67),
            made_task("boolq", 0.61, 0.60),
        ),
        "overall": Overall(
            accuracies=("piqa acc", "boolq acc"),
            base=0.645,
            value=0.635,
            difference=interval(-0.01, 0.008),
            recovery=interval(0.984, 0.012),
        ),
        "fidelity": None if divergence is None else made_fidelity(divergence),
        "efficiency": made_efficiency(),
    }
    return report.model_copy(update={**values, **changes})


def made_model(name: str = "acme/Llama-3-8B-GPTQ-4bit", **changes: Any) -> Released:
    """Return a model whose weights would be in a folder."""
    weights = Weights(folder=Path("/nowhere"))
    return released(full_report(name, **changes), "acme", weights)
