"""Models that see: their decoder is quantized, their eyes stay, and both are read back together."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_vision import SIDE, TINY
from torch import Tensor
from transformers import AutoModelForImageTextToText

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.records.plan import Plan
from hubq.sources.language_part import opened
from hubq.sources.processor import processor_of, seen
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.lint.gather import folder_release
from hubq.stages.lint.lint import lint
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEXT = "LlavaNextForConditionalGeneration"
# Of a picture of SIDE x 2 SIDE; Mistral 3 merges four of them.
PLACES = {"Mistral3ForConditionalGeneration": 2, "Pixtral": 8}
QUESTION = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}
]
RTN = {"name": "rtn", "bits": 4, "group_size": 32}
SYMMETRIC = RTN | {"symmetric": True}
METHODS: dict[str, dict[str, Any]] = {
    "awq": RTN | {"symmetric": False},
    "bitsandbytes": {"name": "bitsandbytes"},
    "compressed-tensors": SYMMETRIC,
    "gptq": SYMMETRIC,
    "hubq": {"name": "rtn", "bits": 3, "group_size": 32},
}
OTHERS = [name for name in TINY if name != NEXT]
EVERY = [(NEXT, form) for form in METHODS] + [
    *zip(OTHERS, cycle(["gptq", "hubq", "compressed-tensors", "awq"]), strict=False)
]


class Made(NamedTuple):
    """A quantized model that sees."""

    plan: Plan
    base: Path
    folder: Path


@pytest.fixture
def made(tiny_vision_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Made]:
    """Return a function from an architecture and a format to what the stages make of them."""

    def make(architecture: str, form: str, **changes: object) -> Made:
        base, run = tiny_vision_model(architecture), tmp_path / "run"
        run.mkdir()
        values = {
            "name": "tiny",
            "model": {"folder": base},
            "method": METHODS[form],
            "format": form,
            "publish": {"org": "me"},
        }
        planned = plan(Recipe.model_validate(values | changes), run, NOWHERE)
        quantize(planned, run, NOWHERE)
        return Made(planned, base, run / "model")

    return make


def dequantized(made: Made, form: str) -> Any:
    """Return the base with the weights that a folder holds, each unpacked by the format."""
    model = AutoModelForImageTextToText.from_pretrained(made.base, dtype=torch.float32)
    whole = opened(made.base).whole
    assert whole is not None
    tensors = load_file(made.folder / "model.safetensors")
    config = json.loads((made.folder / "config.json").read_text())["quantization_config"]
    for each in made.plan.modules:
        if each.quantized:
            inside, name = whole.in_files(each.name), whole.in_memory(each.name)
            own = {
                f"{name}{key.removeprefix(inside)}": tensor
                for key, tensor in tensors.items()
                if key.startswith(f"{inside}.")
            }
            weight = format_named(form).unpack(name, own, config).dequantize()
            model.get_submodule(name).weight.data = weight
    return model.eval()


def shown(architecture: str, folder: Path) -> dict[str, Tensor]:
    """Return what a model reads of a picture and a question."""
    if find_spec("torchvision") is None and architecture in PLACES:  # as its processor wants
        ids = torch.tensor([[1, *[264] * PLACES[architecture], 2, 3]])
        torch.manual_seed(0)
        picture = torch.randn(1, 3, SIDE, 2 * SIDE)
        return {
            "input_ids": ids,
            "pixel_values": picture,
            "image_sizes": torch.tensor([[SIDE, 2 * SIDE]]),
        }
    fractal = Image.effect_mandelbrot((40, 60), (-2, -1.5, 1, 1.5), 20).convert("RGB")
    return seen(processor_of(folder), [fractal], QUESTION)


def logits(model: Any, given: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(**given).logits
    return found


@pytest.mark.parametrize(("architecture", "form"), EVERY)
def test_it_is_read_as_its_dequantized_model_with_and_without_a_picture(
    made: Callable[..., Made], architecture: str, form: str
) -> None:
    model = made(architecture, form)
    assert not lint(folder_release(model.folder)).errors
    picture = shown(architecture, model.folder)
    text = {"input_ids": torch.arange(20)[None]}

    loaded = load(model.folder, device="cpu", dtype="float32").model

    expected = dequantized(model, form)
    unquantized = AutoModelForImageTextToText.from_pretrained(model.base, dtype=torch.float32)
    # The library's kernels compute in bfloat16 whatever the model does.
    tolerance = 4e-3 if form == "bitsandbytes" else 2e-6
    for given in (picture, text):
        found = logits(loaded, given)
        assert (found - logits(expected, given)).abs().max() < tolerance
        assert (found - logits(unquantized, given)).abs().max() > 4 * tolerance


@pytest.mark.parametrize("architecture", TINY)
def test_all_that_sees_is_the_same_byte_for_byte_under_the_same_names(
    made: Callable[..., Made], architecture: str
) -> None:
    model = made(architecture, "hubq")

    before = load_file(model.base / "model.safetensors")
    after = load_file(model.folder / "model.safetensors")
    whole = opened(model.base).whole
    assert whole is not None
    linears = {
        f"{whole.in_files(each.name)}.weight" for each in model.plan.modules if each.quantized
    }
    kept = before.keys() - linears
    assert kept < after.keys()
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert {name for name in after if not name.endswith(("_scale", "_zero"))} == before.keys()


class KilledError(Exception):
    """What ends a run in its midst."""


class Ending:
    """Progress that ends a run once its first block is done."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Count the steps, and end a run in the second half of them."""
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            if title.startswith("Quantizing") and done > total / 2:
                raise KilledError

        yield advance


def test_a_run_that_ended_goes_on_to_the_same_bytes(
    made: Callable[..., Made], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"The {number}th llama ate leaves.\n" for number in range(90)))
    given = {
        "method": {"name": "gptq", "bits": 4, "group_size": 32},
        "calibration": {"dataset": {"file": text}, "samples": 4, "length": 32},
    }
    whole = made(NEXT, "compressed-tensors", **given)
    run = tmp_path / "again"
    run.mkdir()
    with pytest.raises(KilledError):
        quantize(whole.plan, run, NOWHERE, Ending())
    assert list(run.glob("blocks/*0.safetensors"))

    quantize(whole.plan, run, NOWHERE)

    for path in whole.folder.iterdir():
        assert (run / "model" / path.name).read_bytes() == path.read_bytes()


def test_head_and_embeddings_can_be_quantized_too(made: Callable[..., Made]) -> None:
    model = made(NEXT, "hubq", embeddings=8)

    loaded = load(model.folder, device="cpu", dtype="float32").model

    picture = shown(NEXT, model.folder)
    torch.testing.assert_close(
        logits(loaded, picture), logits(dequantized(model, "hubq"), picture), atol=2e-6, rtol=0
    )
    assert sum(each.quantized for each in model.plan.modules) == 16


def test_a_head_in_the_files_stays_one_of_its_own_whatever_config_says(
    made: Callable[..., Made], tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_vision_model(NEXT), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"tie_word_embeddings": True}
    config["text_config"] |= {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))

    model = made(NEXT, "hubq", embeddings=8, model={"folder": folder})

    loaded = load(model.folder, device="cpu", dtype="float32").model
    text = {"input_ids": torch.arange(20)[None]}
    usual = dequantized(model, "hubq")
    torch.testing.assert_close(logits(loaded, text), logits(usual, text), atol=2e-6, rtol=0)


def test_eyes_that_are_no_numbers_are_refused(
    made: Callable[..., Made], tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_vision_model(NEXT), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["image_newline"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    with pytest.raises(UserError, match="image_newline holds NaN or inf"):
        made(NEXT, "hubq", model={"folder": folder})
