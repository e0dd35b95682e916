"""The card of a model that sees, and of the language part of one."""

import json
import re
import shlex
from typing import Any, Literal

import pytest
import yaml
from made_run import full_report, made_plan, made_report, measurement

from hubq.records.card_rules import validate
from hubq.records.plan import PlannedVision, StayingPart
from hubq.records.report import Report
from hubq.stages.card.card import render

STAYS = (
    StayingPart(name="vision_tower", parameters=303_507_456, bytes=607_014_912),
    StayingPart(name="multi_modal_projector", parameters=20_979_712, bytes=41_959_424),
)


def seeing(part: Literal["all", "language"] = "all", **changes: Any) -> Report:
    vision = PlannedVision(
        title="LLaVA-NeXT",
        architecture="LlavaNextForConditionalGeneration",
        part=part,
        stays=STAYS,
    )
    return full_report(plan=made_plan(vision=vision), **changes)


def front_matter(report: Report) -> dict[str, Any]:
    text = render(report)
    assert validate(text, "model").errors == []
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("report", "tag", "words"),
    [
        (seeing(), "image-text-to-text", {"llava-next", "vision"}),
        (seeing("language"), "text-generation", {"llava-next", "text-only"}),
        (made_report(), "text-generation", set()),
    ],
    ids=["sees", "its language part", "reads text"],
)
def test_the_hub_is_told_what_a_model_reads(report: Report, tag: str, words: set[str]) -> None:
    found = front_matter(report)

    assert found["pipeline_tag"] == tag
    assert {"llava-next", "vision", "text-only"} & set(found["tags"]) == words


def test_what_stays_is_said_with_its_parameters_and_bytes() -> None:
    text = render(seeing()).replace("\u00a0", " ")

    assert (
        "Only the language part of this LLaVA-NeXT is quantized. What sees, `vision_tower` and "
        "`multi_modal_projector` (324,487,168 parameters, 0.65 GB), is the base's, byte for byte."
    ) in text
    assert "| vision_tower | 303,507,456 | 0.61 GB |" in text
    assert "| lm_head | 16,384 | 0.0 MB |" in text


def test_a_text_only_copy_is_labelled_and_asked_without_a_picture() -> None:
    text = render(seeing("language"))

    assert "**This is the language part alone** of a model that sees (LLaVA-NeXT)" in text
    assert "It sees nothing" in text
    assert "AutoModelForCausalLM" in text
    assert "image_url" not in text


def test_a_text_models_card_says_nothing_of_pictures() -> None:
    assert not re.search("picture.png|language part|What stays", render(full_report()))


def test_what_it_makes_of_pictures_is_said_to_be_measured_or_not() -> None:
    asked = measurement(task="chartqa", metric="relaxed_accuracy", better="higher")

    assert "What it makes of pictures: not measured." in render(seeing())
    assert "What it sees was measured by chartqa, one" in render(seeing(measurements=(asked,)))


def test_the_hub_is_told_which_results_are_about_pictures() -> None:
    asked = measurement(task="chartqa", metric="relaxed_accuracy", better="higher")

    (found,) = front_matter(seeing(measurements=(asked, measurement())))["model-index"]

    kinds = [each["task"] for each in found["results"]]
    assert {"type": "image-text-to-text", "name": "chartqa"} in kinds
    assert {"type": "text-generation", "name": "perplexity"} in kinds


def test_a_server_is_asked_with_the_address_of_a_picture() -> None:
    lines = [each for each in render(seeing()).splitlines() if each.startswith("curl ")]

    asked = [shlex.split(each) for each in lines]
    assert [each[1] for each in asked] == [
        f"localhost:{port}/v1/chat/completions" for port in (8000, 30000)
    ]
    for _, _, option, body in asked:
        request = json.loads(body)
        kinds = [part["type"] for part in request["messages"][0]["content"]]
        assert (option, request["model"], kinds) == (
            "--json",
            made_plan().repo,
            ["image_url", "text"],
        )
