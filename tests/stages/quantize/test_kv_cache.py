"""Keys and values in FP8: scales from what attention really keeps, and readers that use them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_model
from torch import Tensor

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.sources.calibration_tokens import tokens
from hubq.sources.shards import Weights
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    save_tiny_model("llama", folder)
    return folder


@pytest.fixture(scope="module")
def text(base: Path) -> Path:
    path = base.with_name("text.txt")
    path.write_text("".join(f"The {each}th llama ate {each * 7} leaves.\n" for each in range(90)))
    return path


def made(base: Path, text: Path | None, **changes: object) -> Recipe:
    section = {"dataset": {"file": text}, "samples": 4, "length": 64}
    values: dict[str, object] = {
        "name": "tiny",
        "model": {"folder": base},
        "method": {"name": "fp8", "activations": "none"},
        "kv_cache": "fp8",
        "calibration": section if text else None,
        "publish": {"org": "me"},
    }
    return Recipe.model_validate(values | changes)


def written(recipe: Recipe, run: Path) -> Path:
    run.mkdir()
    quantize(plan(recipe, run, NOWHERE), run, NOWHERE)
    return run / "model"


def logits(folder: Path) -> Tensor:
    model: Any = load(folder, device="cpu", dtype="bfloat16").model
    with torch.no_grad():
        found: Tensor = model(torch.arange(40).reshape(2, 20), use_cache=False).logits
    return found


def test_scales_are_those_of_what_the_quantized_model_keeps(
    base: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_COMPUTE_DTYPE", "bfloat16")
    folder = written(made(base, text), tmp_path / "run")

    weights = Weights(folder)
    alone = written(made(base, text, kv_cache=16), tmp_path / "alone")
    recipe = made(base, text)
    assert recipe.calibration is not None
    given = tokens(recipe.calibration, base, NOWHERE, torch.bfloat16).ids
    model = load(alone, device="cpu", dtype="bfloat16").model
    with torch.no_grad():
        cache = model(given, use_cache=True).past_key_values
    for number, layer in enumerate(cache.layers):
        for name, kept in (("k_scale", layer.keys), ("v_scale", layer.values)):
            scale = weights.read(f"model.layers.{number}.self_attn.{name}")
            assert (scale.dtype, scale.shape) == (torch.bfloat16, (1,))
            assert float(scale) == pytest.approx(float(kept.abs().max()) / 448, rel=0.02)


def test_plain_transformers_rounds_keys_and_values(base: Path, text: Path, tmp_path: Path) -> None:
    folder = written(made(base, text), tmp_path / "run")
    alone = written(made(base, text, kv_cache=16), tmp_path / "alone")

    found, exact = logits(folder), logits(alone)

    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["kv_cache_scheme"]["num_bits"] == 8
    assert not torch.equal(found, exact)
    assert torch.allclose(found, exact, atol=0.1)


def test_they_are_not_lost_block_by_block(base: Path, text: Path, tmp_path: Path) -> None:
    folder = written(made(base, text), tmp_path / "run")

    with pytest.raises(UserError, match="has a kv_cache_scheme in its quantization_config"):
        load(folder, device="cpu", dtype="bfloat16", by_blocks=True)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": "dense"}, "dense files hold no scales of keys and values"),
        ({"calibration": None}, "kv_cache: fp8 needs calibration data"),
    ],
)
def test_what_cannot_be_is_refused_by_the_plan(
    changes: dict[str, object], complaint: str, base: Path, text: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=complaint):
        plan(made(base, text, **changes), tmp_path / "run", NOWHERE)
