"""Pictures in calibration: what the walk reads is what the whole model reads at its blocks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vision import TINY
from torch import Tensor
from transformers import AutoModelForImageTextToText

from hubq.client.client import Client
from hubq.machine.progress import SILENT
from hubq.records.plan import Plan
from hubq.records.recipe_inputs import CalibrationSection
from hubq.sources.calibration_tokens import Tokens, tokens
from hubq.sources.skeleton import Skeleton
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.quantization import Quantization
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.tuning import Teacher
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEXT = "LlavaNextForConditionalGeneration"
PICTURES = {"name": "hubq_choices"}
CALIBRATION = {"dataset": PICTURES, "samples": 3, "length": 256}


@pytest.fixture
def planned(tiny_vision_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Plan]:
    """Return a function from an architecture to the plan of a recipe with pictures."""

    def make(architecture: str, **changes: object) -> Plan:
        values = {
            "name": "tiny",
            "model": {"folder": tiny_vision_model(architecture)},
            "method": {"name": "gptq", "bits": 4, "group_size": 32},
            "format": "hubq",
            "calibration": CALIBRATION,
            "publish": {"org": "me"},
        }
        return plan(Recipe.model_validate(values | changes), tmp_path / "run", NOWHERE)

    return make


def read_by_the_whole(folder: Path, read: Tokens) -> list[list[Tensor]]:
    """Return of each window what enters the model's blocks, and what leaves the last."""
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16)
    decoder = model.get_decoder()
    found: list[list[Tensor]] = []
    for layer in decoder.layers:
        layer.register_forward_pre_hook(lambda _, inputs: found[-1].append(inputs[0][0]))
    decoder.norm.register_forward_pre_hook(lambda _, inputs: found[-1].append(inputs[0][0]))
    assert read.weights is not None
    for ids, weights, seen in zip(read.ids, read.weights, read.seen, strict=True):
        found.append([])
        inputs = {"input_ids": ids[None, : int((weights > 0).sum())], **(seen or {})}
        with torch.no_grad():
            model(**inputs)
    return found


@pytest.mark.parametrize("architecture", TINY)
def test_what_enters_and_leaves_the_blocks_is_what_the_whole_model_shows(
    architecture: str, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    data = [PICTURES | {"weight": 2}, {"name": "hubq_charts", "weight": 1}]
    made = planned(architecture, calibration={"datasets": data, "samples": 3, "length": 256})
    section = CalibrationSection.model_validate(made.recipe["calibration"])
    quantization = Quantization(made, tmp_path / "run", NOWHERE, SILENT)
    folder = Path(made.recipe["model"]["folder"])
    expected = read_by_the_whole(folder, tokens(section, folder, NOWHERE, torch.bfloat16))

    skeleton = Skeleton(
        quantization.config, quantization.family, quantization.device, quantization.dtype
    )
    assert quantization.hidden is not None
    reading = Teacher(quantization.hidden, torch.empty(0), quantization.windows)
    passed = [reading.hidden[:].clone()]
    with torch.no_grad():
        for number in range(len(skeleton.blocks)):
            reading.advance(Block(skeleton, number, quantization.weights))
            passed.append(reading.hidden[:].clone())

    order = sorted(range(3), key=lambda each: -len(expected[each][0]))
    for window, which in enumerate(order):
        for own, whole in zip(passed, expected[which], strict=True):
            torch.testing.assert_close(own[window, : len(whole)], whole, rtol=0.02, atol=0.02)
        assert torch.equal(passed[0][window, : len(expected[which][0])], expected[which][0])
