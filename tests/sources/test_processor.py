"""Processors: what they make of pictures and words, and files that are not as they should be."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hubq.errors import UserError
from hubq.sources.processor import _computed, processor_of, seen

NEXT = "LlavaNextForConditionalGeneration"
PICTURE = Image.new("RGB", (40, 60), "navy")
WITHOUT_TORCHVISION = (
    NEXT,
    "LlavaForConditionalGeneration",
    "LlavaOnevisionForConditionalGeneration",
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Idefics3ForConditionalGeneration",
    "SmolVLMForConditionalGeneration",
)
WITH_TORCHVISION = ("Mistral3ForConditionalGeneration", "Pixtral")
NEEDS_TORCHVISION = pytest.mark.skipif(
    find_spec("torchvision") is None, reason="torchvision is not installed"
)


def asked(*parts: str) -> list[dict[str, Any]]:
    """Return a turn of pictures and texts."""
    content = [
        {"type": "image"} if each == "image" else {"type": "text", "text": each} for each in parts
    ]
    return [{"role": "user", "content": content}]


@pytest.fixture
def copied(tiny_vision_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function from a file's name and its changes to a copy of a LLaVA-NeXT."""

    def copy(name: str = "config.json", **changes: object) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(tiny_vision_model(NEXT), folder)
        said = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(said))
        return folder

    return copy


@pytest.mark.parametrize(
    "architecture",
    [
        *WITHOUT_TORCHVISION,
        *(pytest.param(each, marks=NEEDS_TORCHVISION) for each in WITH_TORCHVISION),
    ],
)
def test_a_picture_is_read_behind_what_is_before_it(
    tiny_vision_model: Callable[[str], Path], architecture: str
) -> None:
    processor = processor_of(tiny_vision_model(architecture))

    given = seen(processor, [PICTURE], asked("image", "What is this?"))

    token = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    text = processor.tokenizer.decode(given["input_ids"][0][given["input_ids"][0] != token])
    assert text.startswith("user: ")
    assert text.endswith("What is this?assistant: ")
    assert given["pixel_values"].is_floating_point()


def test_words_alone_need_no_picture(tiny_vision_model: Callable[[str], Path]) -> None:
    processor = processor_of(tiny_vision_model(NEXT))

    given = seen(processor, [], [{"role": "user", "content": "Hello"}])

    assert given.keys() == {"input_ids", "attention_mask"}
    assert processor.tokenizer.decode(given["input_ids"][0]) == "user: Helloassistant: "


@pytest.mark.parametrize(
    ("parts", "pictures", "places"),
    [
        (("image", "image", "Which?"), 1, 2),
        (("Which?",), 1, 0),
        (("image", "What does <image> mean?"), 1, 2),
    ],
)
def test_as_many_pictures_as_places_are_asked_for(
    tiny_vision_model: Callable[[str], Path], parts: tuple[str, ...], pictures: int, places: int
) -> None:
    processor = processor_of(tiny_vision_model(NEXT))

    with pytest.raises(UserError, match=f"the prompt has {places} places for pictures"):
        seen(processor, [PICTURE] * pictures, asked(*parts))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("processor_config.json", {"patch_size": 7}),
        ("processor_config.json", {"vision_feature_select_strategy": "full"}),
    ],
)
def test_a_processor_of_another_model_is_refused(
    copied: Callable[..., Path], name: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"its processor makes \d+ image tokens of a picture"):
        processor_of(copied(name, **changes))


def test_a_processor_of_another_grid_is_refused(copied: Callable[..., Path]) -> None:
    folder = copied("preprocessor_config.json", image_grid_pinpoints=[[28, 28]])

    with pytest.raises(UserError, match="its model can't take what its processor makes"):
        processor_of(folder)


def test_a_token_that_the_model_does_not_know_for_a_picture_is_refused(
    copied: Callable[..., Path],
) -> None:
    with pytest.raises(UserError, match=r"token 258, but config.json says 77"):
        processor_of(copied(image_token_index=77))


def test_what_is_not_there_is_named(copied: Callable[..., Path]) -> None:
    folder = copied()
    (folder / "preprocessor_config.json").unlink()

    with pytest.raises(UserError, match="no LlavaNextProcessor that transformers can build"):
        processor_of(folder)


def test_a_processor_with_code_of_its_own_runs_none_of_it(copied: Callable[..., Path]) -> None:
    mine = {"AutoProcessor": "mine.Mine", "AutoImageProcessor": "mine.Mine"}
    folder = copied("preprocessor_config.json", auto_map=mine)
    (folder / "mine.py").write_text("raise SystemExit('code of a model was run')")

    given = seen(processor_of(folder), [PICTURE], "<image>")

    assert torch.isfinite(given["pixel_values"]).all()


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
@pytest.mark.parametrize("architecture", WITH_TORCHVISION)
def test_a_package_that_is_missing_is_named(
    tiny_vision_model: Callable[[str], Path], architecture: str
) -> None:
    with pytest.raises(UserError, match=r"a package that is not installed: .*torchvision"):
        processor_of(tiny_vision_model(architecture))


@pytest.mark.parametrize(("architecture", "places"), [*zip(WITH_TORCHVISION, (3, 12), strict=True)])
def test_a_tower_that_takes_pictures_as_they_are_makes_a_token_of_each_square(
    tiny_vision_model: Callable[[str], Path], architecture: str, places: int
) -> None:
    config = json.loads((tiny_vision_model(architecture) / "config.json").read_text())
    sizes = torch.tensor([[28, 56], [28, 28]])  # height and width; patches of 14

    assert _computed(config, {"image_sizes": sizes, "pixel_values": torch.empty(2, 3, 28, 56)}) == (
        places
    )
