"""Pictures in calibration, in a plan: for models that see, with what they cost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.published import GPUS
from hubq.records.plan import Plan, StayingPart
from hubq.stages.plan.forecast import forecast_for
from hubq.stages.plan.memory import walk_of
from hubq.stages.plan.plan import plan
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEXT = "LlavaNextForConditionalGeneration"
DRAWN = {"dataset": "hubq_charts", "samples": 4, "length": 128}


def planned(folder: Path, run: Path, calibration: object = DRAWN, **publish: str) -> Plan:
    values = {
        "name": "tiny",
        "model": {"folder": folder},
        "method": {"name": "gptq", "bits": 4, "group_size": 32},
        "format": "hubq",
        "calibration": calibration,
        "publish": {"org": "me", **publish},
    }
    return plan(Recipe.model_validate(values), run, NOWHERE)


def test_a_model_that_reads_text_alone_is_not_calibrated_on_pictures(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"calibration: there are pictures in it, and .* reads text"
    ):
        planned(tiny_model("llama"), tmp_path)


def test_nor_is_the_language_part_of_one_that_sees(
    tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="reads text alone; calibrate on text"):
        planned(tiny_vision_model(NEXT), tmp_path, part="language")


def test_nor_is_a_model_without_what_makes_tokens_of_pictures(
    tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_vision_model(NEXT), folder)
    (folder / "preprocessor_config.json").unlink()

    with pytest.raises(UserError, match=r"preprocessor_config\.json"):
        planned(folder, tmp_path / "run")


def test_looking_takes_memory_and_time(
    tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tiny_vision_model(NEXT)
    (tmp_path / "text.txt").write_text("text " * 1000)
    text = DRAWN | {"dataset": {"file": tmp_path / "text.txt"}}
    seen, read = planned(folder, tmp_path / "seen"), planned(folder, tmp_path / "read", text)
    assert seen.vision is not None
    eyes = StayingPart(name="vision_tower", parameters=10**10, bytes=2 * 10**10)
    large = {"vision": seen.vision.model_copy(update={"stays": (eyes,)})}

    sees, reads = (each.model_copy(update=large) for each in (seen, read))

    for gpu in (True, False):
        memory, less = (
            sum(walk_of(each, "bfloat16").memory("device", gpu=gpu)) for each in (sees, reads)
        )
        assert memory > less + 2 * 10**10
    parts = forecast_for(sees, GPUS["h200"]).stages["quantize"]
    assert parts["pictures"] > 100 * parts["forward"]
    assert "pictures" not in forecast_for(reads, GPUS["h200"]).stages["quantize"]
