"""That memory is one block and the hidden states, whatever the model's size: python bench/memory.py

Two random LLaMAs with the same blocks, one several times deeper (about 0.6 and 2.4 GB of weights),
are quantized by GPTQ on the same tokens, each in a process of its own.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from subject import RTN, alone, calibration, heading, recipe

from hubq.client.client import Client
from hubq.sources.find import fetch, find
from hubq.sources.shards import merge, pieces, write
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

DEPTHS = (16, 70)
SAMPLES = 16
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "dtype": "bfloat16",
}


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(Path(sys.argv[2]))))
        return
    found = Table(
        "blocks",
        "weights MB",
        "peak MB",
        "estimated MB",
        "seconds",
        title=heading(f"GPTQ, {SAMPLES} x 512 tokens, hidden size {CONFIG['hidden_size']}"),
    )
    with tempfile.TemporaryDirectory() as name:
        for depth in DEPTHS:
            folder = Path(name) / str(depth)
            size = make(folder / "base", CONFIG | {"num_hidden_layers": depth})
            row = alone(__file__, "--one", str(folder))
            figures = (size, row["memory"], row["estimated"])
            found.add_row(
                str(depth), *(f"{each / 1e6:,.0f}" for each in figures), f"{row['seconds']:.0f}"
            )
            shutil.rmtree(folder)
    Console(width=120).print(found)


def one(folder: Path) -> dict[str, float]:
    """Quantize the model of a folder and say what it took."""
    section = calibration(SAMPLES)
    wanted = Recipe.model_validate(
        {
            "name": "memory",
            "model": {"folder": folder / "base"},
            "method": {"name": "gptq", "group_size": 64},
            "calibration": section.model_dump(mode="json"),
            "publish": {"org": "nobody"},
        }
    )
    client, run = Client(), folder / "run"
    planned = plan(wanted, run, client)
    done = quantize(planned, run, client)
    return {"memory": done.peak_memory, "estimated": planned.peak_memory, "seconds": done.seconds}


def make(folder: Path, config: dict[str, Any]) -> int:
    """Write a random model block by block, with SmolLM2's tokenizer; return its bytes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    client = Client()
    tokenizer = fetch(find(recipe(RTN, SAMPLES).model, client), client)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    parts = folder.with_name("parts")
    parts.mkdir()
    random = torch.Generator().manual_seed(0)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    small = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (small, hidden),
        "self_attn.v_proj": (small, hidden), "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }  # fmt: skip
    for number in range(config["num_hidden_layers"]):
        name = f"model.layers.{number}"
        block = {
            f"{name}.{linear}.weight": torch.randn(shape, generator=random).mul_(0.02).bfloat16()
            for linear, shape in shapes.items()
        }
        for norm in ("input_layernorm", "post_attention_layernorm"):
            block[f"{name}.{norm}.weight"] = torch.ones(hidden).bfloat16()
        write(parts / f"{number:03d}", block)
    table = torch.randn(config["vocab_size"], hidden, generator=random).mul_(0.02).bfloat16()
    ends = {"model.embed_tokens.weight": table, "model.norm.weight": torch.ones(hidden).bfloat16()}
    write(parts / "ends", ends)
    everything = [piece for part in sorted(parts.iterdir()) for piece in pieces(part)]
    size = merge(everything, folder, shard_bytes=500_000_000)
    shutil.rmtree(parts)
    return size


if __name__ == "__main__":
    main()
