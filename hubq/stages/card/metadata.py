"""The card's YAML: what the Hub reads of a model card, its license among it.

A license that the Hub has no id for is `other` there, with a name and a link.
"""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hubq.records.adapted_report import AdaptedReport
from hubq.records.named_texts import NAMED_TEXTS
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.records.vocabulary import HUB_LICENSES, LICENSE_FILES, PUBLIC_HUB
from hubq.sources.architecture import FAMILIES
from hubq.sources.data_license import duties_of_data
from hubq.sources.license_terms import TERMS, published_license, terms_of
from hubq.stages.card.results import READING, SEEING, model_index
from hubq.stages.card.sections.adaptation import model_of
from hubq.stages.card.sections.usage import SERVERS, planned_method, served
from hubq.stages.card.sections.vision import sees

if TYPE_CHECKING:
    from hubq.methods import Method

UNNAMED = "same-as-base-model"  # the Hub wants a name for `other`, and the base gave none

# What licenses want displayed prominently; the rest is in hubq/sources/license_terms.py.
BUILT_WITH = {name: each.built_with for name, each in TERMS.items() if each.built_with}
# What lm-eval calls the metrics that huggingface.co/metrics has.
METRICS = {
    "perplexity": "perplexity",
    "acc": "accuracy",
    "acc_norm": "accuracy",
    "acc+": "accuracy",
    "relaxed_accuracy": "accuracy",
    "circular_accuracy": "accuracy",
    "mc1": "accuracy",
    "exact_match": "exact_match",
    "f1": "f1",
    "bleu": "bleu",
    "chrf": "chrf",
    "rouge1": "rouge",
    "rouge2": "rouge",
    "rougeL": "rouge",
}


def license_keys(
    license: str | None, base_model: str | None, files: Collection[str] = ()
) -> dict[str, str]:
    """Return the card's license keys: the base's license, never one of our choosing.

    `files` are the paths in the repo, among which the text of the license may be.
    """
    if license is None:
        return {}
    if license in HUB_LICENSES and license != "other":
        return {"license": license}
    name = re.sub(r"[^a-z0-9.]+", "-", license.lower()).strip("-")
    keys = {"license": "other", "license_name": UNNAMED if name in ("", "other") else name}
    link = _link(license, base_model, files)
    return keys if link is None else {**keys, "license_link": link}


def _link(license: str, base_model: str | None, files: Collection[str]) -> str | None:
    """Return where the text is: in the repo, at its owner's, or else somewhere at the base's."""
    here = [name for name in LICENSE_FILES if name in files]
    if here:
        return here[0]
    if terms := terms_of(license):
        return terms.address
    return None if base_model is None else f"{PUBLIC_HUB}/{base_model}"


def metadata(report: Report) -> str:
    """Return the YAML block that the Hub reads."""
    from huggingface_hub import ModelCardData

    plan = report.plan
    keys: dict[str, Any] = {
        "language": list(plan.base_card.language) or None,
        "base_model": plan.base_model,
        "base_model_relation": "quantized" if plan.base_model else None,
        **license_keys(published_license(plan), plan.base_model, report.checkpoint.files),
        "library_name": "transformers",
        "pipeline_tag": SEEING if sees(plan) else READING,
        "tags": tags(plan),
        "datasets": calibration_dataset(report),
        "metrics": metrics(report),
        "quantized_by": plan.repo.partition("/")[0],
        # No hosted service has the reader of our own format, so the page need not offer one.
        "inference": False if plan.recipe["format"] == "hubq" else None,
        **plan.base_card.extra_gated,
        "model_name": plan.repo.partition("/")[2],
        "eval_results": model_index(report) or None,
    }
    if isinstance(report, AdaptedReport):
        keys |= adapted_keys(report)
    return ModelCardData(**keys).to_yaml()


def adapted_keys(report: AdaptedReport) -> dict[str, Any]:
    """Return the keys by which what is adapted differs from a quantized model."""
    plan, made = report.plan, report.adaptation
    taught, license = made.taught, published_license(plan)
    learnt = [taught.repo] if taught and taught.repo else []
    datasets = [*(calibration_dataset(report) or []), *learnt]
    keys: dict[str, Any] = {"datasets": list(dict.fromkeys(datasets)) or None}
    of_data = taught.license if taught else None
    if license and of_data and of_data != license and duties_of_data(of_data):
        joined = f"{license} and {of_data}"  # both bind, and the Hub takes one name
        keys |= license_keys(joined, plan.base_model, report.checkpoint.files)
    if made.makes == "adapter":
        base = model_of(plan)
        words = [f"base_model:adapter:{base}", "lora", "transformers", "hubq", made.name]
        keys |= {"base_model": base, "base_model_relation": "adapter", "library_name": "peft"}
        return keys | {"tags": words, "quantized_by": None, "inference": None}
    if made.merged == "16-bit":
        relation = {"base_model_relation": "finetune"} if plan.base_model else {}
        return keys | relation | {"tags": ["hubq", made.name, _family(plan)], "quantized_by": None}
    return keys | {"tags": [*tags(plan), made.name]}


def metrics(report: Report) -> list[str] | None:
    """Return the ids of the metrics that were measured, those that huggingface.co/metrics has."""
    named = (METRICS.get(each.metric.partition(",")[0]) for each in report.measurements)
    return list(dict.fromkeys(name for name in named if name)) or None


def tags(plan: Plan) -> list[str]:
    """Return the words by which the Hub's users find such a model."""
    form, method = plan.recipe["format"], planned_method(plan)
    engines = [name.lower() for name in SERVERS if served(plan)[name].loads]
    words = ["hubq", "quantized", plan.recipe["method"]["name"], *_widths(plan, method)]
    return list(dict.fromkeys([*words, form, *engines, _family(plan), *_seeing(plan)]))


def _seeing(plan: Plan) -> list[str]:
    """Return the tags of a model that sees, or of its language part alone."""
    if plan.vision is None:
        return []
    return [plan.vision.title.lower().replace(" ", "-"), "vision" if sees(plan) else "text-only"]


def _family(plan: Plan) -> str:
    """Return the name of the model's family, such as llama."""
    return re.sub(r"[\d.]+$", "", FAMILIES[plan.architecture].title).lower()


def _widths(plan: Plan, method: "Method") -> list[str]:
    """Return the tags for whole numbers of bits: 4-bit and w4a16."""
    if not float(plan.nominal_bits).is_integer():
        return []
    bits = int(plan.nominal_bits)
    return [f"{bits}-bit", f"w{bits}a{method.activation_bits or 16}"]


def calibration_dataset(report: Report) -> list[str] | None:
    """Return the Hub ids of the data that the method was calibrated on, where there are any."""
    if not report.checkpoint.calibration_tokens:
        return None
    asked = report.plan.recipe.get("calibration") or {}
    every = asked.get("datasets") or [asked.get("dataset") or {}]
    ids = (data.get("hub") or _repo_of(data.get("name")) for data in every)
    return list(dict.fromkeys(each.partition("@")[0] for each in ids if each)) or None


def _repo_of(name: str | None) -> str | None:
    """Return where a text lies that recipes call by a name."""
    named = NAMED_TEXTS.get(name or "")
    return named.repo if named else None
