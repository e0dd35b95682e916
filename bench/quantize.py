"""What quantizing costs, beside the least that it could: python bench/quantize.py [WORD ...]

Numbers are of calibration windows (32 and 128 without any); other words choose the methods.

The floor is measured in the same run, in the dtype that quantizing runs in here: one forward pass
of the calibration tokens through the blocks, and one XᵀX for each distinct input, at the best rate
found that sums in float32. Every row runs in a process of its own; `other` is what no part claims:
imports, tokenizing, assembling.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from subject import RTN, alone, calibration, heading, quantized, quickstarts, recipe

from hubq.client.client import Client
from hubq.machine.device import compute_dtype, keep_freed_memory
from hubq.sources import calibration_tokens
from hubq.sources.find import fetch, find
from hubq.sources.texts.find import text as corpus_text
from hubq.tensors.gram import add_lower_gram, factors_in

PARTS = ("reading", "forward", "hessian", "solving", "tuning", "writing")
LENGTH = 512


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], int(sys.argv[3]))))
    elif sys.argv[1:2] == ["--floor"]:
        print(json.dumps(floor(int(sys.argv[2]))))
    else:
        words = sys.argv[1:]
        chosen = [word for word in words if not word.isdigit()]
        for samples in [int(word) for word in words if word.isdigit()] or [32, 128]:
            Console(width=120).print(table(samples, chosen))


def table(samples: int, chosen: list[str]) -> Table:
    """Measure the chosen methods, or all, and the floor on so many windows."""
    forward, gram = alone(__file__, "--floor", str(samples))
    title = heading(f"{samples} x {LENGTH} tokens, groups of 64")
    found = Table("recipe", *PARTS, "blocks s", "x floor", "wall s", "peak MB", title=title)
    for way in quickstarts():
        if chosen and way.method["name"] not in chosen:
            continue
        row = alone(__file__, "--one", way.name, str(samples))
        blocks = sum(row["parts"].values())
        found.add_row(
            way.name.removeprefix("quickstart_"),
            *(f"{row['parts'].get(part, 0):.1f}" for part in PARTS),
            f"{blocks:.1f}",
            f"{blocks / (forward + gram):.2f}" if row["parts"].get("forward") else "-",
            f"{row['seconds']:.1f}",
            f"{row['memory'] / 1e6:.0f}",
        )
    found.add_row("floor", "", f"{forward:.1f}", f"{gram:.1f}", "", "", f"{forward + gram:.1f}")
    return found


def one(name: str, samples: int) -> dict[str, object]:
    """Quantize once and say where the time went."""
    (way,) = (each for each in quickstarts() if each.name == name)
    with tempfile.TemporaryDirectory() as run:
        done = quantized(way, samples, Path(run))
    return {"parts": done.seconds_by_part, "seconds": done.seconds, "memory": done.peak_memory}


@torch.inference_mode()
def floor(samples: int) -> tuple[float, float]:
    """Return the seconds of the forward pass and of the Gram matrices."""
    from transformers import AutoModel

    keep_freed_memory()
    client, section = Client(), calibration(samples)
    folder = fetch(find(recipe(RTN, samples).model, client), client)
    text = corpus_text(section.parts[0][0], client, purpose="calibration")
    tokens = calibration_tokens.windows(text, folder, section)
    dtype: torch.dtype = getattr(torch, compute_dtype("cpu"))
    model = AutoModel.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()
    batches = torch.split(tokens, 8192 // LENGTH)
    model(batches[0])
    forward = least(lambda: [model(batch) for batch in batches])
    config = model.config
    widths = [config.hidden_size] * 3 + [config.intermediate_size]
    gram = sum(gram_seconds(width, len(batches), dtype) for width in widths)
    return forward, gram * config.num_hidden_layers


def gram_seconds(width: int, batches: int, dtype: torch.dtype) -> float:
    """Return the least seconds of XᵀX for all tokens of one input, over ways that are exact."""
    inputs = torch.randn(8192, width).to(dtype).float()
    total = torch.zeros(width, width)
    ways: tuple[Callable[[], object], ...] = (
        lambda: total.addmm_(inputs.T, inputs),
        lambda: add_lower_gram(total, inputs),
    )
    with factors_in(dtype):
        return min(least(way) for way in ways) * batches


def least(work: Callable[[], object], times: int = 3) -> float:
    """Return the least seconds that a piece of work took."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)


if __name__ == "__main__":
    main()
