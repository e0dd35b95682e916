"""An adapted model with made-up values, for the tests of cards."""

from typing import Any

from made_run import REPO, full_report, made_plan, measurement

from hubq.records.adaptation import Adaptation, AdaptedLayer, Curve, HeldOut, Taught
from hubq.records.adapted_report import AdaptedReport
from hubq.records.plan import Plan, PlannedAdaptation
from hubq.records.report import Interval, Measured, Overall

ADAPTED_REPO = f"{REPO}-QLoRA"
ADAPT: dict[str, Any] = {
    "name": "qlora",
    "dataset": {"hub": "tatsu-lab/alpaca"},
    "template": "alpaca",
    "rank": 64,
    "alpha": 16.0,
    "steps": 500,
    "batch_size": 16,
    "at_once": None,
    "learning_rate": 0.0002,
    "merge": False,
}
TAUGHT = Taught(
    title="tatsu-lab/alpaca",
    version="dce01c9b08f87459cf36a430d809084718273017",
    repo="tatsu-lab/alpaca",
    license="cc-by-nc-4.0",
    template="alpaca",
    pairs=51_000,
    held_out=128,
    left_out={"an empty answer": 28},
    cut=77,
    tokens=5_100_000,
    answer_tokens=3_300_000,
)
CURVE = Curve(
    steps=(100, 200, 300, 400, 500),
    losses=(1.612, 1.301, 1.247, 1.198, 1.175),
    held_out_steps=(0, 250, 500),
    held_out_losses=(1.744, 1.288, 1.222),
)


def made_adapted_plan(**changes: Any) -> Plan:
    """Return the plan of an adapted model; changes are of its recipe's section."""
    planned = PlannedAdaptation(
        name="qlora",
        makes="adapter",
        repo=ADAPTED_REPO,
        quantized=REPO,
        parameters=12288,
        added_bits=0.512,
        bytes=49152,
        peak_memory=1_200_000_000,
        compute_dtype="bfloat16",
        pairs="tatsu-lab/alpaca",
        data_license="cc-by-nc-4.0",
    )
    plan = made_plan(repo=ADAPTED_REPO, adaptation=planned)
    plan.recipe["adapt"] = {**ADAPT, **changes}
    return plan


def made_adaptation(**changes: Any) -> Adaptation:
    """Return what became of a training."""
    values: dict[str, Any] = {
        "name": "qlora",
        "makes": "adapter",
        "files": {"adapter_model.safetensors": "a" * 64, "adapter_config.json": "b" * 64},
        "weight_bytes": 49280,
        "parameters": 12288,
        "added_bits": 0.5123,
        "taught": TAUGHT,
        "steps": 500,
        "curve": CURVE,
        "held_out": HeldOut(
            pairs=128,
            tokens=8123,
            before=1.744,
            after=1.222,
            difference=Interval(value=-0.522, low=-0.561, high=-0.484),
        ),
        "seconds": 1234.5,
        "seconds_by_part": {"training": 1200.1},
        "peak_memory": 1_345_600_000,
        "device": "cpu (Imaginary 9000)",
        "versions": {"torch": "2.13.0"},
        "compute_dtype": "bfloat16",
    }
    return Adaptation(**{**values, **changes})


def corrected(**changes: Any) -> Adaptation:
    """Return what became of a correction without training."""
    layer = AdaptedLayer(
        name="model.layers.0.mlp.up_proj", facts={"error_before": 0.0831, "error_after": 0.0412}
    )
    values = {"name": "low_rank", "taught": None, "curve": None, "held_out": None, "steps": 0}
    text = {"calibration_text": "texts, sha256:77", "calibration_tokens": 16384}
    return made_adaptation(**{**values, **text, "layers": (layer,), **changes})


def adapted_report(adaptation: Adaptation | None = None, **changes: Any) -> AdaptedReport:
    """Return a report in which all was measured of base, quantized and adapted model."""
    full = full_report()
    quantized = Measured(**{name: getattr(full, name) for name in Measured.model_fields})
    values: dict[str, Any] = {
        **{name: getattr(full, name) for name in type(full).model_fields},
        "plan": made_adapted_plan(),
        "adaptation": adaptation or made_adaptation(),
        "unadapted": quantized,
        "gained": _gained(quantized),
        "measurements": tuple(_after(each) for each in full.measurements),
    }
    return AdaptedReport(**{**values, **changes})


def _after(quantized: Any) -> Any:
    """Return the adapted model's measurement, a little better than the quantized one's."""
    value = quantized.value + (-1.5 if quantized.better == "lower" else 0.02)
    return quantized.model_copy(
        update={
            "value": value,
            "difference": Interval(
                value=value - quantized.base,
                low=value - quantized.base - 0.01,
                high=value - quantized.base + 0.01,
            ),
        }
    )


def _gained(quantized: Measured) -> Measured:
    """Return the adapted model beside the quantized one."""

    def about(value: float) -> Interval:
        return Interval(value=value, low=value - 0.01, high=value + 0.01)

    rows = tuple(
        measurement(
            task=each.task,
            dataset=each.dataset,
            dimension=each.dimension,
            metric=each.metric,
            better=each.better,
            base=each.value,
            value=_after(each).value,
            difference=about(_after(each).value - each.value),
            paired=True,
            samples=each.samples,
        )
        for each in quantized.measurements
    )
    overall = Overall(
        accuracies=("piqa acc", "boolq acc"),
        base=0.6631,
        value=0.6831,
        difference=Interval(value=0.02, low=0.008, high=0.033),
        recovery=Interval(value=1.03, low=1.01, high=1.05),
    )
    return quantized.model_copy(update={"measurements": rows, "overall": overall})
