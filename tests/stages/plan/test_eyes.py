"""Tasks on pictures in a plan: of a model that sees, asked as they are defined."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.plan import Plan
from hubq.stages.plan.plan import plan
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEXT = "LlavaNextForConditionalGeneration"


def planned(folder: Path, run: Path, tasks: list[object], **publish: str) -> Plan:
    values = {
        "name": "tiny",
        "model": {"folder": folder},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "format": "compressed-tensors",
        "evaluate": {"tasks": tasks, "require": {"recovery": 0.9}},
        "publish": {"org": "me", **publish},
    }
    return plan(Recipe.model_validate(values), run, NOWHERE)


def test_a_model_that_sees_is_asked_about_pictures(
    tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> None:
    found = planned(tiny_vision_model(NEXT), tmp_path, ["mme", "hubq_charts"])

    assert [each["name"] for each in found.recipe["evaluate"]["tasks"]] == ["mme", "hubq_charts"]


def test_a_model_that_reads_text_alone_is_not(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"evaluate\.tasks: mme asks about pictures, and .* reads"):
        planned(tiny_model("llama"), tmp_path, ["hubq_piqa", "mme"])


def test_nor_is_the_language_part_of_one_that_sees(
    tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="hubq_charts, chartqa ask about pictures"):
        planned(tiny_vision_model(NEXT), tmp_path, ["hubq_charts", "chartqa"], part="language")


def test_examples_are_refused(tiny_vision_model: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mme is asked without examples, and 2 are asked for"):
        planned(tiny_vision_model(NEXT), tmp_path, [{"name": "mme", "shots": 2}])
