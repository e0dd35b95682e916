"""What a model that sees says to a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL.Image import Image

from hubq.errors import UserError
from hubq.sources.pictures.drawn import DRAWN
from hubq.sources.processor import seen
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.seeing import Viewer

SEES = ("LlavaNextForConditionalGeneration", "Qwen2VLForConditionalGeneration")
ASKED = "What is it?"


@pytest.fixture(scope="module")
def picture() -> Image:
    return next(DRAWN["charts"](0, 1)).picture


@pytest.fixture
def viewer(tiny_vision_model: Callable[[str], Path]) -> Callable[[str], Viewer]:
    """Return a function from an architecture to a loaded model."""

    def of(architecture: str) -> Viewer:
        folder = tiny_vision_model(architecture)
        return Viewer(load(folder, device="cpu", dtype="float32").model, folder)

    return of


def likeliest(viewer: Viewer, picture: Image, tokens: int) -> str:
    """Go on from the same turn by the likeliest token, with all of it run anew each time."""
    content = [{"type": "image"}, {"type": "text", "text": ASKED}]
    given: dict[str, Any] = seen(
        viewer.processor, [picture], [{"role": "user", "content": content}]
    )
    length = given["input_ids"].shape[1]
    for _ in range(tokens):
        with torch.inference_mode():
            step = viewer.model(**given).logits[:, -1:].argmax(-1)
        given["input_ids"] = torch.cat([given["input_ids"], step], 1)
        for name in ("attention_mask", "mm_token_type_ids"):
            if name in given:
                more = torch.full_like(step, int(name == "attention_mask"))
                given[name] = torch.cat([given[name], more], 1)
    text: str = viewer.processor.tokenizer.decode(
        given["input_ids"][0, length:], skip_special_tokens=True
    )
    return text


@pytest.mark.parametrize("architecture", SEES)
def test_an_answer_is_the_likeliest_text_whatever_the_models_settings_say(
    architecture: str, viewer: Callable[[str], Viewer], picture: Image
) -> None:
    model = viewer(architecture)
    for name, value in {
        **{"do_sample": True, "temperature": 5.0, "top_k": 3, "top_p": 0.5},
        **{"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "num_beams": 3},
    }.items():
        setattr(model.model.generation_config, name, value)

    assert model.answer(picture, ASKED, 6) == likeliest(model, picture, 6)


def test_another_picture_makes_another_answer(
    viewer: Callable[[str], Viewer], picture: Image
) -> None:
    model = viewer(SEES[0])

    said = {model.answer(each.picture, ASKED, 6) for each in DRAWN["yes_no"](0, 3)}

    assert len(said) > 1


def test_what_does_not_fit_into_the_positions_is_refused(
    viewer: Callable[[str], Viewer], picture: Image
) -> None:
    model = viewer(SEES[0])
    model.model.config.get_text_config().max_position_embeddings = 30

    with pytest.raises(UserError, match=r"and the answer takes \d+ tokens, and .* for 30"):
        model.answer(picture, ASKED, 6)


def test_numbers_that_are_none_are_refused(viewer: Callable[[str], Viewer], picture: Image) -> None:
    model = viewer(SEES[0])
    torch.nn.init.constant_(model.model.lm_head.weight, torch.nan)

    with pytest.raises(UserError, match="computes NaN or infinity"):
        model.answer(picture, ASKED, 6)
