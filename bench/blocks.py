"""That a model is evaluated in a third of its size: python bench/blocks.py

A random LLaMA of 24 blocks, 2 GB in bfloat16, is evaluated whole and block by block, each in a
process of its own with one thread: perplexity over the first windows of this project's docs, and
hubq_piqa. The peak is above what the process holds once all libraries are imported; the numbers of
both ways have to be equal.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from memory import CONFIG, lend_tokenizer, make
from rich.console import Console
from rich.table import Table
from subject import alone, heading

from hubq.machine.device import compute_dtype, keep_freed_memory, return_freed_memory
from hubq.machine.meters import held, peak
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.measurements.choice import choice, harness_task
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask, perplexity
from hubq.stages.evaluate.task import keep_text

SIZES = {"num_hidden_layers": 24, "hidden_size": 2048, "intermediate_size": 4608}
HEADS = {"num_attention_heads": 32, "num_key_value_heads": 8}
WINDOWS, LENGTH, ITEMS = 8, 512, 30
DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    torch.set_num_threads(1)  # of each run, and of what the heading says
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(Path(sys.argv[2]), by_blocks=sys.argv[3] == "blocks")))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        size = make(folder, CONFIG | SIZES | HEADS)
        lend_tokenizer(folder)
        rows = {way: alone(__file__, "--one", str(folder), way) for way in ("whole", "blocks")}
    title = f"{size / 1e9:.2f} GB, {WINDOWS} x {LENGTH} tokens and {ITEMS} items of hubq_piqa"
    table = Table("way", "peak MB", "above libraries", "of the model", "CPU s", "numbers",
                  title=heading(title))  # fmt: skip
    for way, row in rows.items():
        above = row["peak"] - row["libraries"]
        table.add_row(
            way,
            f"{row['peak'] / 1e6:,.0f}",
            f"{above / 1e6:,.0f}",
            f"{above / size:.2f}",
            f"{row['seconds']:.0f}",
            ", ".join(f"{value:.6g}" for value in row["values"]),
        )
    Console(width=120).print(table)
    same = rows["whole"]["items"] == rows["blocks"]["items"]
    print(f"the numbers of all windows and items are {'equal' if same else 'NOT equal'}")


def one(folder: Path, *, by_blocks: bool) -> dict[str, Any]:
    """Evaluate a folder and say what that took."""
    import transformers.models.llama.modeling_llama  # noqa: F401 - what else loading imports

    import hubq.stages.evaluate.lm_eval_model  # noqa: F401

    if by_blocks:  # as workers do
        return_freed_memory()
    else:
        keep_freed_memory()
    libraries, began = held("cpu"), time.process_time()
    dtype = compute_dtype("cpu")
    model = load(folder, device="cpu", dtype=dtype, by_blocks=by_blocks).model
    text = keep_text("\n".join(path.read_text() for path in sorted(DOCS.glob("*.md"))))
    task = PerplexityTask(dataset="docs", version="1", text=text, length=LENGTH, windows=WINDOWS)
    found = (
        *perplexity(Passes(model, folder), task),
        *choice(model, folder, harness_task("hubq_piqa", limit=ITEMS)),
    )
    return {
        "libraries": libraries,
        "peak": peak("cpu"),
        "seconds": time.process_time() - began,
        "values": [each.value for each in found],
        "items": [each.items for each in found],
    }


if __name__ == "__main__":
    main()
