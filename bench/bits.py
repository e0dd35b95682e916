"""What weights take, nominally, by need and on disk: python bench/bits.py [RECIPE ...]

Every way that a recipe for LLaMA3-8B names, on LLaMA3-8B's shapes with the recipe's own groups and
on SmolLM2-135M's with groups of 64. Nothing is read or quantized: methods sketch their results, and
formats pack the sketches. Where data decides how well flags are coded, ones are taken to lie
anywhere; real ones gather, and take less.

Bits a weight are those of the quantized linears: nominal ones as the paper counts, needed ones with
every code, sign, flag and scale, stored ones as they lie in the file. The file's bits a parameter
include embeddings and norms: 16-bit embeddings, or 4-bit ones where the format holds them.
"""

import sys
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table
from subject import GROUP_SIZE, RECIPES, STUDIED, heading

from hubq.errors import UserError
from hubq.records.plan import Plan
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.shards import TensorInfo
from hubq.sources.source import Source
from hubq.stages.plan.plan import estimate
from hubq.stages.recipe.matrix import is_matrix
from hubq.stages.recipe.recipe import Recipe, read

SMALL = "SmolLM2-135M"
SHAPES: dict[str, dict[str, Any]] = {
    "LLaMA3-8B": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
    SMALL: {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
}


COLUMNS = ("recipe", "format", "nominal", "needed", "stored", "file", "file, emb. 4")


def main() -> None:
    asked = tuple(sys.argv[1:]) or ("",)
    single = (path for path in sorted(RECIPES.glob("*.yaml")) if not is_matrix(path))
    recipes = [each for each in map(read, single) if is_studied(each)]
    for model in SHAPES:
        found = Table(*COLUMNS, title=heading(f"{model}, bits a weight and a parameter"))
        rows = [row(each, model) for each in recipes if each.name.startswith(asked)]
        for figures in sorted(rows, key=lambda figures: float(figures[4])):
            found.add_row(*figures)
        Console(width=120).print(found)


def is_studied(recipe: Recipe) -> bool:
    """Tell whether a recipe is one for the model of the study."""
    return recipe.model.hub == STUDIED


def row(recipe: Recipe, model: str) -> tuple[str, ...]:
    """Return a line of the table."""
    planned = estimated(recipe, model, embeddings=16)
    try:
        smaller = f"{estimated(recipe, model, embeddings=4).model_bits:.2f}"
    except UserError:
        smaller = "-"  # the format can't hold them
    return (
        recipe.name,
        recipe.format,
        f"{planned.nominal_bits:.2f}",
        f"{planned.needed_bits:.3f}",
        f"{planned.linear_bits:.3f}",
        f"{planned.model_bits:.2f}",
        smaller,
    )


def estimated(recipe: Recipe, model: str, embeddings: int) -> Plan:
    """Plan a recipe for a model's shapes."""
    values = recipe.model_dump(mode="json") | {"embeddings": embeddings}
    if model == SMALL and values["method"].get("group_size", -1) > 0:
        values["method"]["group_size"] = GROUP_SIZE
    return estimate(Recipe.model_validate(values), sketched(model))


@cache
def sketched(model: str) -> Source:
    """Return a model of which nothing is there but its shapes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(architectures=["LlamaForCausalLM"], **SHAPES[model])
    with torch.device("meta"):
        parameters = LlamaForCausalLM(config).named_parameters()
    tensors = {
        name: TensorInfo("model.safetensors", "BF16", tuple(each.shape), 0, 2 * each.numel())
        for name, each in parameters
    }
    section = ModelSection(hub=STUDIED)
    return Source(section, model, config.to_dict(), tensors, STUDIED, "llama3")


if __name__ == "__main__":
    main()
