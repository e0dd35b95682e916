"""The small model that sees, of `bench/tiny_vision_model.py`: it learns, and it is what it says."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny_vision_model as script
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForImageTextToText

from hubq.sources.pictures.drawn import DRAWN
from hubq.sources.processor import processor_of, seen


class Made(NamedTuple):
    """A model that was trained for a few steps, and its folder."""

    model: Any
    processor: Any
    losses: list[float]
    folder: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "BATCH", 10)
        patch.setattr(script, "WARM_UP", 1)
        patch.setattr(script, "TESTED", 5)
        processor = script.made_processor()
        model = script.made_model(processor, seed=0)
        losses = [loss for _, loss in script.trained(model, processor, steps=5, seed=0)]
        script.save(model, processor, folder)
    return Made(model, processor, losses, folder)


def test_the_loss_falls(made: Made) -> None:
    assert sum(made.losses[-2:]) < 0.8 * sum(made.losses[:2])


def test_its_folder_has_the_names_of_repos_and_of_tensors_that_llava_has(made: Made) -> None:
    names = load_file(made.folder / "model.safetensors").keys()

    assert {
        "image_newline",
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "multi_modal_projector.linear_1.weight",
        "vision_tower.vision_model.embeddings.class_embedding",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
    } < names
    files = {path.name for path in made.folder.iterdir()}
    assert {"config.json", "preprocessor_config.json", "processor_config.json"} < files


@pytest.mark.parametrize("kind", sorted(DRAWN))
def test_it_is_trained_on_what_the_processor_makes_of_a_prompt(made: Made, kind: str) -> None:
    drawn, question = next(DRAWN[kind](7, 1)), next(script.questions(kind, 7, 1))
    parts = [{"type": "image"}, {"type": "text", "text": question.prompt}]

    learned = script.laid_out(made.processor, [question])
    asked = seen(processor_of(made.folder), [drawn.picture], [{"role": "user", "content": parts}])

    length = asked["input_ids"].shape[1]
    assert learned.ids[0, :length].tolist() == asked["input_ids"][0].tolist()
    assert (learned.answers[0, :length] == -100).all()
    assert made.processor.decode(learned.ids[0, length:]) == f"{drawn.answers[0]}<|end|>"
    assert_close(learned.pixels, asked["pixel_values"], atol=1e-5, rtol=0)


def test_transformers_loads_what_was_trained(made: Made) -> None:
    loaded: Any = AutoModelForImageTextToText.from_pretrained(made.folder)
    batch = script.laid_out(made.processor, list(script.questions("charts", 0, 2)))

    given = script.answered(made.model, batch)[0]
    found = script.answered(loaded, batch)[0]

    assert loaded.dtype == torch.bfloat16
    assert_close(found, given, atol=0.05, rtol=0.05)
