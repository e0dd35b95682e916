"""Pictures in calibration: what the walk reads is what the whole model reads at its blocks."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from progress_recorder import Killed, Killing
from tiny_vision import SIDE, TINY
from torch import Tensor
from transformers import AutoModelForImageTextToText

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import SILENT
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.recipe_calibration import CalibrationSection
from hubq.sources.architecture import family_of
from hubq.sources.calibration_tokens import Tokens, tokens
from hubq.sources.language_part import opened
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.resuming import VARIABLE
from hubq.stages.quantize.seeing import Eyes, with_pictures
from hubq.stages.quantize.tuning import Teacher
from hubq.stages.quantize.windows import Entering, embedded
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEXT = "LlavaNextForConditionalGeneration"
LIKE = torch.empty(0)
# Widths of pictures that are two tokens each: Mistral 3 merges four patches.
SIDES = {"Mistral3ForConditionalGeneration": 2 * SIDE, "Pixtral": SIDE // 2}
TEXT = torch.tensor([5, 9, 2, 7, 7, 3])  # a window without a picture


def reads(architecture: str, folder: Path) -> Tokens:
    """Return three windows: two with pictures between text, one of text."""
    side = SIDES.get(architecture)
    if side is not None and find_spec("torchvision") is None:  # which its processor wants
        shape = {"image_sizes": torch.tensor([[SIDE, side]])}
        return by_hand(264, torch.randn(1, 3, SIDE, side), shape)
    values = {"dataset": "hubq_choices", "samples": 2, "length": 256}
    found = tokens(CalibrationSection.model_validate(values), folder, NOWHERE)
    ids = torch.nn.functional.pad(TEXT, (0, found.ids.shape[1] - len(TEXT)))
    assert found.weights is not None
    weights = torch.cat([(torch.arange(len(ids)) < len(TEXT)).float()[None], found.weights])
    return Tokens(torch.cat([ids[None], found.ids]), "", weights, (None, *found.seen))


def by_hand(token: int, pixels: Tensor, others: dict[str, Tensor]) -> Tokens:
    ids = torch.tensor([[*TEXT, 0], [1, token, token, 4, 2, 3, 9], [1, 8, token, token, 6, 0, 0]])
    weights = (torch.arange(7) < torch.tensor([6, 7, 5])[:, None]).float()
    seen = ({"pixel_values": each, **others} for each in (pixels, -pixels))
    return Tokens(ids, "", weights, (None, *seen))


def entering(folder: Path, read: Tokens) -> Entering:
    part = opened(folder)
    assert part.whole is not None
    table = partial(Weights(folder, dict(part.tensors)).rows, "model.embed_tokens.weight")
    see = partial(with_pictures, Eyes(folder, part.whole, table, LIKE), SILENT)
    return embedded(read, table, see=see)


def passed(folder: Path, given: Entering) -> list[Tensor]:
    """Return the hidden states that enter the blocks of a walk, and that leave each."""
    part = opened(folder)
    skeleton = Skeleton(part.config, family_of(part.config), LIKE.device, LIKE.dtype)
    reading = Teacher(given.hidden.clone(), torch.empty(0), given.windows)
    found = [given.hidden]
    with torch.no_grad():
        for number in range(len(skeleton.blocks)):
            reading.advance(Block(skeleton, number, Weights(folder, dict(part.tensors))))
            found.append(reading.hidden[:].clone())
    return found


def read_by_the_whole(folder: Path, read: Tokens) -> list[list[Tensor]]:
    """Return of each window, the longest first, what enters the model's blocks and leaves each."""
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=LIKE.dtype)
    found: list[list[Tensor]] = []
    for each in (*model.get_decoder().layers, model.get_decoder().norm):
        each.register_forward_pre_hook(lambda _, inputs: found[-1].append(inputs[0][0]))
    assert read.weights is not None
    for ids, weights, seen in zip(read.ids, read.weights, read.seen, strict=True):
        found.append([])
        with torch.no_grad():
            model(input_ids=ids[None, : int((weights > 0).sum())], **(seen or {}))
    return sorted(found, key=lambda states: -len(states[0]))


@pytest.mark.parametrize("architecture", TINY)
def test_what_reaches_each_block_is_what_the_whole_model_shows_there(
    tiny_vision_model: Callable[[str], Path], architecture: str
) -> None:
    folder = tiny_vision_model(architecture)
    torch.manual_seed(0)
    read = reads(architecture, folder)

    given = entering(folder, read)
    found = passed(folder, given)

    assert (given.positions is not None) == architecture.startswith("Qwen2")
    for window, expected in enumerate(read_by_the_whole(folder, read)):
        for own, whole in zip(found, expected, strict=True):
            assert (own[window, : len(whole)] - whole).abs().max() < 2e-6


def test_another_number_of_tokens_than_places_is_an_error(
    tiny_vision_model: Callable[[str], Path],
) -> None:
    folder = tiny_vision_model(NEXT)
    read = reads(NEXT, folder)
    ids = read.ids.masked_fill((read.ids == 258).cumsum(1) == 1, 7)  # of each picture the first

    with pytest.raises(UserError, match="can't take what its processor makes of a picture"):
        entering(folder, Tokens(ids, "", read.weights, read.seen))


@pytest.fixture
def quantized(
    tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> Callable[..., tuple[Plan, Checkpoint]]:
    """Return a function that quantizes a model on pictures, under a name, killed or not."""

    def make(
        architecture: str, method: dict[str, object], name: str = "run", killed: int = 0
    ) -> tuple[Plan, Checkpoint]:
        values = {
            "name": "tiny",
            "model": {"folder": tiny_vision_model(architecture)},
            "method": method,
            "format": "compressed-tensors" if method["name"] == "smoothquant" else "hubq",
            "calibration": {"dataset": "hubq_charts", "samples": 9, "length": 160},
            "publish": {"org": "me"},
        }
        run = tmp_path / name
        planned = plan(Recipe.model_validate(values), run, NOWHERE)
        if killed:
            with suppress(Killed):
                quantize(planned, run, NOWHERE, Killing(killed, "Quantizing"))
                pytest.fail("it ended before it was killed")
        return planned, quantize(planned, run, NOWHERE)

    return make


@pytest.mark.parametrize(
    "method",
    [
        {"name": "awq", "group_size": 32, "powers": 3, "clips": 2},
        {"name": "smoothquant"},
    ],
    ids=["awq", "smoothquant"],
)
def test_methods_are_calibrated_on_pictures_and_it_is_said_how(
    method: dict[str, object], quantized: Callable[..., tuple[Plan, Checkpoint]]
) -> None:
    _, made = quantized(NEXT, method)

    said = made.calibration_text or ""
    assert said.startswith("charts that hubq draws, seed 2000000 (pictures with questions, by the")
    assert said.endswith("(image_share 0.5)")
    assert made.calibration_tokens == sum(
        int(each.split()[-1].replace(",", ""))
        for each in (said.split(" tokens of text")[0], said.split(" of pictures")[0])
    )


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        (NEXT, {"name": "gptq", "group_size": 32}),
        (
            "Qwen2VLForConditionalGeneration",
            {"name": "db_llm", "group_size": 32, "epochs": 1, "batch": 2},
        ),
    ],
)
def test_a_killed_run_over_pictures_ends_with_the_same_bytes(
    architecture: str,
    method: dict[str, object],
    quantized: Callable[..., tuple[Plan, Checkpoint]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    _, expected = quantized(architecture, method, "whole")

    _, found = quantized(architecture, method, "killed", killed=6)

    assert found.files == expected.files
    assert found.calibration_text == expected.calibration_text
