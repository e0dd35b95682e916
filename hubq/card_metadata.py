"""The card's YAML: what the Hub reads of a model card, from the report."""

import re
from typing import Any

from hubq import license as licences
from hubq.evaluate import Measurement, Report
from hubq.plan import Plan

# Where the data sets that recipes call by name live.
HUB_DATASETS = {
    "wikitext2": "Salesforce/wikitext",
    "c4": "allenai/c4",
    "ptb": "ptb-text-only/ptb_text_only",
}


def metadata(report: Report) -> str:
    """Return the YAML block that the Hub reads."""
    from huggingface_hub import ModelCardData

    plan = report.plan
    keys: dict[str, Any] = {
        "base_model": plan.base_model,
        "base_model_relation": "quantized" if plan.base_model else None,
        **licences.metadata(license_of(plan), plan.base_model),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": tags(plan),
        "datasets": calibration_dataset(report),
        "quantized_by": plan.repo.partition("/")[0],
        **plan.base_card.extra_gated,
        "model_name": plan.repo.partition("/")[2],
        "eval_results": [evaluation(each) for each in report.measurements] or None,
    }
    return ModelCardData(**keys).to_yaml()


def evaluation(measurement: Measurement) -> Any:  # noqa: ANN401 - an EvalResult, imported late
    """Return a measurement as an entry of model-index, with what makes it believable."""
    from huggingface_hub import EvalResult

    facts = measurement.model_dump(include={"samples", "stderr", "base", "base_stderr", "protocol"})
    return EvalResult(
        task_type="text-generation",
        task_name=measurement.task,
        # The Hub takes nothing for a type that could not be a data set's id.
        dataset_type=re.sub(r"[^a-z0-9_.-]+", "-", measurement.dataset.lower()).strip("-"),
        dataset_name=measurement.dataset,
        dataset_revision=measurement.version,
        metric_type=measurement.metric,
        metric_value=measurement.value,
        metric_args={key: value for key, value in facts.items() if value is not None},
    )


def license_of(plan: Plan) -> str | None:
    """Return the licence id: the recipe's word, else the base's."""
    return plan.recipe["publish"].get("license") or plan.license


def tags(plan: Plan) -> list[str]:
    """Return the words by which the Hub's users find such a model."""
    method = plan.recipe["method"]
    width = [f"{method['bits']}-bit"] if "bits" in method else []
    return ["hubq", "quantized", method["name"], *width, plan.recipe["format"]]


def calibration_dataset(report: Report) -> list[str] | None:
    """Return the Hub id of the data that the method was calibrated on, where there is one."""
    if not report.checkpoint.calibration_tokens:
        return None
    data = (report.plan.recipe.get("calibration") or {}).get("dataset") or {}
    name = (data.get("hub") or HUB_DATASETS.get(data.get("name") or "") or "").partition("@")[0]
    return [name] if name else None
