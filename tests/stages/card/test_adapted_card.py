"""Cards of what was adapted: an adapter's, a whole model's, and the quantized model's link."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_run import REPO, full_report, made_report
from made_taught import (
    CURVE,
    TAUGHT,
    TAUGHT_REPO,
    corrected,
    taught,
    taught_plan,
    taught_report,
)

from hubq.records.adaptation import Adaptation
from hubq.records.adapted_report import AdaptedReport
from hubq.records.card_rules import validate
from hubq.records.report import Interval, Report
from hubq.records.run_folder import PICTURES
from hubq.stages.card.card import NO_SIBLINGS, contents, render
from hubq.stages.card.plots import loss_by_step

CODE = re.compile(r"```.*?```", re.DOTALL)
WHOLE = {"makes": "checkpoint", "files": {"model.safetensors": "c" * 64}, "weight_bytes": 37400}


def peqa(**changes: Any) -> Adaptation:
    return taught(**{"name": "peqa", "added_bits": 0.0, **WHOLE, **changes})


def whole(adaptation: Adaptation, **options: Any) -> AdaptedReport:
    """Return the report of an adapted model that is published whole."""
    return taught_report(adaptation, plan=taught_plan(makes="checkpoint", **options))


def merged() -> AdaptedReport:
    adaptation = taught(**WHOLE | {"weight_bytes": 49152, "merged": "16-bit"})
    return whole(adaptation, merge=True)


def keys(report: Report) -> dict[str, Any]:
    found = yaml.safe_load(render(report).split("---\n")[1])
    assert isinstance(found, dict)
    return found


def plain(report: Report) -> str:
    return render(report).replace("\u00a0", " ")


def with_publish(**changes: Any) -> AdaptedReport:
    plan = taught_plan()
    plan.recipe["publish"] |= changes
    return taught_report(plan=plan)


EACH = [
    taught_report(),
    taught_report(corrected()),
    whole(peqa()),
    merged(),
    whole(taught(**WHOLE, merged="requantized"), merge="requantized"),
]
IDS = ["adapter", "corrected", "peqa", "merged", "requantized"]


@pytest.mark.parametrize("report", EACH, ids=IDS)
def test_the_hub_takes_the_card(report: Report) -> None:
    assert validate(render(report), "model").errors == []


@pytest.mark.parametrize("report", EACH, ids=IDS)
def test_no_blank_is_left(report: Report) -> None:
    prose = CODE.sub("", render(report).split("---\n", 2)[2])

    assert not re.search(r"\bNone\b|\(\)|\{\{|\}\}", prose)


def test_an_adapter_belongs_to_the_quantized_model() -> None:
    found = keys(taught_report())

    assert (found["base_model"], found["base_model_relation"]) == (REPO, "adapter")
    assert found["library_name"] == "peft"
    assert found["tags"] == [f"base_model:adapter:{REPO}", "lora", "transformers", "hubq", "qlora"]


def test_an_adapter_of_the_base_belongs_to_that() -> None:
    report = with_publish(adapter_of="base")

    assert keys(report)["base_model"] == "meta-llama/Meta-Llama-3-8B"
    assert "16-bit base itself, which it is meant for: not measured" in plain(report)


def test_the_data_that_was_learnt_from_is_named_with_its_license() -> None:
    report = taught_report()
    found = keys(report)

    assert found["datasets"] == ["acme/texts", "tatsu-lab/alpaca"]
    assert (found["license"], found["license_name"]) == ("other", "llama3-and-cc-by-nc-4.0")
    text = render(report)
    assert "tatsu-lab/alpaca, which it learnt from, has the license cc-by-nc-4.0." in text
    assert "forbids commercial use" in text


def test_data_that_binds_nobody_leaves_the_license_of_the_base() -> None:
    free = TAUGHT.model_copy(update={"license": "mit"})

    report = taught_report(taught(taught=free))

    assert keys(report)["license"] == "llama3"
    assert "commercial" not in render(report)


def test_three_models_stand_in_one_table_with_paired_differences() -> None:
    text = plain(taught_report())

    assert "| | items | base | quantized | adapted | adapted - quantized | adapted - base |" in text
    assert (
        "| perplexity, xsum | 40 | 25.97 ± 0.31 | 29.58 ± 0.37 | 28.08 ± 0.37 "
        "| -1.500 (-1.510 to -1.490), better | +2.110 (+2.100 to +2.120), worse |" in text
    )
    assert "| **mean of 2** |  | 0.7011 | 0.6631 | 0.6631 | +0.020 (+0.008 to +0.033) |" in text
    assert "| KL divergence from the base, nats | 20,440 | 0.0007100 (floor) | 0.06120" in text


def test_a_mean_of_other_tasks_than_the_tables_says_which() -> None:
    report = taught_report()
    assert report.gained.overall is not None
    fewer = report.gained.overall.model_copy(update={"accuracies": ("piqa acc_norm",)})
    gained = report.gained.model_copy(update={"overall": fewer})

    text = plain(report.model_copy(update={"gained": gained}))

    assert "Its mean accuracy differs by +0.020" in plain(report)
    assert "Its mean of piqa acc_norm differs by +0.020" in text


def test_what_was_not_measured_of_the_quantized_model_is_said() -> None:
    report = taught_report()
    nothing = report.unadapted.model_copy(update={"measurements": (), "fidelity": None})

    text = plain(report.model_copy(update={"unadapted": nothing}))

    assert "| perplexity, xsum | 40 | 25.97 ± 0.31 | not measured | 28.08 ± 0.37 |" in text
    assert "KL divergence from the base, nats | 20,440 | 0.0007100 (floor) | not measured |" in text


def test_nothing_measured_is_said_to_be_so() -> None:
    none = {"measurements": (), "fidelity": None, "overall": None, "efficiency": None}

    text = plain(taught_report(taught(held_out=None), **none))

    assert "Quality: not measured." in text
    assert "Speed and memory: not measured." in text
    assert "The loss on pairs that were not learnt from: not measured." in text


def test_a_higher_divergence_of_what_has_learnt_is_no_loss() -> None:
    assert "rightly farther from" in render(taught_report())
    assert "should lower it" in render(EACH[1])


def test_how_it_was_trained_is_told_in_numbers() -> None:
    text = plain(taught_report())

    assert "| rank | 64 | rows of A and columns of B |" in text
    assert "| pairs learnt from | 51,000 | held out: 128 |" in text
    assert "| pairs left out | 28 with an empty answer | rows that hold no usable pair |" in text
    assert "| tokens seen, about | 800,000 | by the end of the training |" in text
    assert "went from 1.744 to 1.222 nats per token: -0.522 (-0.561 to -0.484)" in text
    assert "1,234 s on cpu (Imaginary 9000) in bfloat16, with at most 1.35 GB of memory" in text
    assert "12,288 numbers were trained, which adds 0.5123 stored bits per weight" in text


def test_a_loss_that_chance_explains_is_said_to_be_so() -> None:
    report = taught_report()
    found = report.adaptation.held_out
    assert found is not None
    noise = found.model_copy(update={"difference": Interval(value=-0.1, low=-0.3, high=0.1)})

    text = plain(taught_report(taught(held_out=noise)))

    assert "1.744 before, no more than chance explains" in text


def test_a_correction_tells_its_layers_and_its_text() -> None:
    text = plain(EACH[1])

    assert "## How it was corrected" in text
    assert "In the layers: error after: 0.04120 to 0.04120 in 1 layers; error before:" in text
    assert "| calibration text | texts, sha256:77 |" in text


def test_the_layout_of_a_question_is_shown() -> None:
    text = plain(taught_report())

    assert "### Instruction:\nWhat is a llama?\n\n### Response: \n```" in text


def test_a_chat_template_lays_out_by_itself() -> None:
    chat = TAUGHT.model_copy(update={"template": "chat"})

    text = render(taught_report(taught(taught=chat)))

    assert "laid out by the model's own chat template" in text
    assert "apply_chat_template" in text
    assert "### Instruction" not in text


def test_the_curve_is_a_picture_for_both_kinds_of_pages() -> None:
    made = contents(taught_report(), NO_SIBLINGS)

    assert {"images/curve.png", "images/curve-dark.png"} <= made.keys() <= {"README.md", *PICTURES}
    assert 'alt="Loss in nats per token over 500 steps: from 1.612 to 1.175' in render(
        taught_report()
    )


def test_a_curve_of_a_point_is_no_picture() -> None:
    assert loss_by_step(CURVE.model_copy(update={"losses": (1.0,), "steps": (1,)})) is None
    assert loss_by_step(None) is None


def test_trained_scales_are_a_quantized_model_that_has_learnt() -> None:
    report = whole(peqa(), name="peqa")
    found = keys(report)

    assert found["base_model"] == "meta-llama/Meta-Llama-3-8B"
    assert (found["base_model_relation"], found["library_name"]) == ("quantized", "transformers")
    assert found["datasets"] == ["acme/texts", "tatsu-lab/alpaca"]
    assert {"4-bit", "peqa"} <= set(found["tags"])
    text = plain(report)
    assert "It was adapted by [PEQA](https://arxiv.org/abs/2305.14152) once it was" in text
    assert "PeftModel" not in text
    assert "c" * 64 in text


def test_what_is_merged_is_labelled_as_16_bits() -> None:
    report = merged()
    found = keys(report)

    assert found["base_model_relation"] == "finetune"
    assert found["tags"] == ["hubq", "qlora", "llama"]
    text = plain(report)
    assert "put together again in 16 bits" in text
    assert "| bits per weight: nominal / needed / stored | 16 | 16 / 16 / 16 |" in text
    assert "format: compressed-tensors" in text  # of the recipe


def test_the_quantized_models_card_links_to_its_adapter() -> None:
    plan = taught_plan().model_copy(update={"repo": REPO})

    text = render(made_report(plan=plan))

    assert f"[{TAUGHT_REPO}](https://huggingface.co/{TAUGHT_REPO}): an adapter for this" in text
    assert keys(made_report(plan=plan))["base_model_relation"] == "quantized"


def test_a_card_without_an_adapter_says_nothing_of_one() -> None:
    assert "adapt" not in render(full_report())


def test_the_adapters_card_names_the_papers_and_the_recipe(tmp_path: Path) -> None:
    text = render(taught_report())

    assert "@inproceedings{dettmers2023qlora," in text
    assert "rank: 64" in text
    assert f"hf download {TAUGHT_REPO} hubq/recipe.yaml" in text
