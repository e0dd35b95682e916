"""A model that has learnt, with made-up values: all that a card of something adapted tells."""

from typing import Any

from made_adaptation import adapted_report, adapting, made_adaptation
from made_run import REPO, full_report, made_plan, measurement

from hubq.records.adaptation import Adaptation, AdaptedLayer, Curve, HeldOut, Taught
from hubq.records.adapted_report import AdaptedReport
from hubq.records.plan import Plan
from hubq.records.report import Interval, Measured, Overall
from hubq.stages.plan.adapted_run import plan_of_adapted

TAUGHT_REPO = f"{REPO}-QLoRA"
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


def taught_plan(*, makes: str = "adapter", **options: Any) -> Plan:
    """Return the plan of a model that learns; options are of its recipe's section."""
    plan = adapting(made_plan())
    assert plan.adaptation is not None
    values = {
        "name": options.get("name", "qlora"),
        "makes": makes,
        "repo": TAUGHT_REPO,
        "pairs": TAUGHT.title,
        "data_license": TAUGHT.license,
    }
    changes = {
        "adaptation": plan.adaptation.model_copy(update=values),
        "recipe": {**plan.recipe, "adapt": {**ADAPT, **options}},
    }
    return plan_of_adapted(plan.model_copy(update=changes))


def taught(**changes: Any) -> Adaptation:
    """Return what became of a training."""
    files = {"adapter_model.safetensors": "a" * 64, "adapter_config.json": "b" * 64}
    values: dict[str, Any] = {
        "name": "qlora",
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
        "peak_memory": 1_345_600_000,
    }
    return made_adaptation(files).model_copy(update={**values, **changes})


def corrected() -> Adaptation:
    """Return what became of a correction without training."""
    layer = AdaptedLayer(
        name="model.layers.0.mlp.up_proj", facts={"error_before": 0.0831, "error_after": 0.0412}
    )
    return taught(
        name="low_rank",
        taught=None,
        curve=None,
        held_out=None,
        steps=0,
        layers=(layer,),
        calibration_text="texts, sha256:77",
        calibration_tokens=16384,
    )


def taught_report(adaptation: Adaptation | None = None, **changes: Any) -> AdaptedReport:
    """Return a report in which all was measured of base, quantized and adapted model."""
    full = full_report(plan=taught_plan())
    report = adapted_report(full, adaptation or taught())
    measured = {
        "gained": _gained(report.unadapted),
        "measurements": tuple(_after(each) for each in full.measurements),
    }
    return report.model_copy(update={**measured, **changes})


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
