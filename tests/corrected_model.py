"""A tiny model that is quantized, in a run folder whose plan is to correct it."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny_model

from hubq.client.client import Client
from hubq.records.plan import Plan
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")


def quantized_run(
    folder: Path, family: str, method: dict[str, Any], form: str = "hubq", **changes: Any
) -> tuple[Plan, Path]:
    """Quantize a tiny model of a family, and return the plan and the run's folder.

    `changes` are those of the recipe, and under `model` those of the model's config.
    """
    base, text = folder / "base", folder / "calibration.txt"
    if not base.is_dir():
        save_tiny_model(family, base, **changes.pop("model", {}))
        _draw_biases(base / "model.safetensors")
    text.write_text("".join(f"The {each}th llama ate {each * 7} leaves.\n" for each in range(90)))
    values = {
        "name": "tiny",
        "model": {"folder": base},
        "method": method,
        "format": form,
        "calibration": {"dataset": {"file": text}, "samples": 8, "length": 64},
        "adapt": {"name": "low_rank"},
        "publish": {"org": "me"},
    }
    run = folder / f"{method['name']}-{form}"
    planned = plan(Recipe.model_validate(values | changes), run, NOWHERE)
    quantize(planned, run, NOWHERE)
    assert planned.adaptation is not None
    in_float32 = planned.adaptation.model_copy(update={"compute_dtype": "float32"})
    return planned.model_copy(update={"adaptation": in_float32}), run


def _draw_biases(file: Path) -> None:
    """Give a model biases that are not zero, if it has any."""
    random, tensors = torch.Generator().manual_seed(0), load_file(file)
    for name, each in tensors.items():
        if name.endswith(".bias"):
            tensors[name] = torch.randn(each.shape, generator=random).to(each.dtype)
    save_file(tensors, file, {"format": "pt"})
