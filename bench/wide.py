"""What real widths cost on this machine: python bench/wide.py [8b | 70b | METHOD | WINDOWS ...]

Random blocks with the linears of LLaMA3-8B (two blocks) and of LLaMA3-70B (one), a small table of
embeddings beside them, are written once to the folder of downloads, and quantized to 4 bits in
groups of 128, each time in a process of its own. Its processor time is split into the program's own
and the kernel's, which goes up with the page faults: a page that is returned to the kernel is
zeroed when it is asked for again.

The floor, measured in the same run, is what no program for this could do without: the base read and
the result written at the disk's speed, and the operations of the matrix products, the factorization
and the searches at the rate of the largest product.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from memory import CONFIG, make, shapes
from quantize import LENGTH, PARTS, least
from rich.console import Console
from rich.table import Table
from subject import alone, calibration, heading

from hubq.client.client import Client
from hubq.machine.device import compute_dtype
from hubq.machine.files import cache_folder
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

SMALL = {"vocab_size": 256, "num_key_value_heads": 8}  # a token for each byte
SHAPES: dict[str, dict[str, Any]] = {
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_hidden_layers": 2,
    },
    "70b": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_attention_heads": 64,
        "num_hidden_layers": 1,
    },
}
METHODS = ("rtn", "gptq", "awq")
WINDOWS = 8
BLOB = 1 << 28  # bytes, to measure the disk with
SIDE = 2048  # of the product that is timed


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    elif sys.argv[1:2] == ["--rates"]:
        print(json.dumps(rates()))
    else:
        words = sys.argv[1:]
        windows = next((int(word) for word in words if word.isdigit()), WINDOWS)
        for size in [word for word in words if word in SHAPES] or SHAPES:
            chosen = [word for word in words if word in METHODS] or METHODS
            Console(width=120).print(table(size, chosen, windows))


def table(size: str, chosen: Any, windows: int) -> Table:  # noqa: ANN401 - names in a row
    """Measure the chosen methods on blocks of a size."""
    base(size)
    rate = alone(__file__, "--rates")
    columns = ("user s", "system s", "1000 faults", "peak MB", "floor s")
    title = heading(f"LLaMA3-{size.upper()}, {windows} x {LENGTH} tokens but for rtn")
    found = Table("method", *PARTS, *columns, title=title)
    for method in chosen:
        row = alone(__file__, "--one", size, method, str(windows))
        found.add_row(
            method,
            *(f"{row['parts'].get(part, 0):.1f}" for part in PARTS),
            *(f"{row[each]:.1f}" for each in ("user", "system")),
            f"{row['faults'] / 1e3:,.0f}",
            f"{row['memory'] / 1e6:,.0f}",
            f"{floor(size, method, windows, row['bytes'], rate):.1f}",
        )
    return found


def base(size: str) -> Path:
    """Return the folder of the random model, which is made at its first use."""
    folder = cache_folder("wide") / size
    if not folder.exists():
        made = folder.with_suffix(".made")
        make(made, CONFIG | SMALL | SHAPES[size])
        write_tokenizer(made)
        made.rename(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer with a token for each byte."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def one(size: str, method: str, windows: int) -> dict[str, object]:
    """Quantize once, and say what it took of the processor, the memory and the disk."""
    values = {
        "name": "wide",
        "model": {"folder": base(size)},
        "method": {"name": method, "bits": 4, "group_size": 128},
        "calibration": calibration(windows).model_dump(mode="json"),
        "publish": {"org": "nobody"},
    }
    recipe, client = Recipe.model_validate(values), Client()
    with tempfile.TemporaryDirectory(dir=base(size).parent) as name:
        run = Path(name) / "run"
        planned = plan(recipe, run, client)
        before = resource.getrusage(resource.RUSAGE_SELF)
        done = quantize(planned, run, client)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "parts": done.seconds_by_part,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt,
        "memory": done.peak_memory,
        "bytes": done.weight_bytes,
    }


def rates() -> dict[str, float]:
    """Measure the disk, in bytes a second, and the largest products, in operations a second."""
    with tempfile.TemporaryDirectory(dir=cache_folder("wide")) as name:
        path = Path(name) / "blob"
        begin = time.perf_counter()
        with path.open("wb") as file:
            file.write(bytes(BLOB))
            file.flush()
            os.fsync(file.fileno())
        written = time.perf_counter() - begin
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            begin = time.perf_counter()
            while file.read(1 << 20):
                pass
        read = time.perf_counter() - begin
    products = {dtype: _product_rate(dtype) for dtype in ("float32", "bfloat16")}
    return {"write": BLOB / written, "read": BLOB / read, **products}


def _product_rate(name: str) -> float:
    dtype: torch.dtype = getattr(torch, name)
    factor = torch.ones(SIDE, SIDE).to(dtype)
    return float(2 * SIDE**3) / least(lambda: factor @ factor)


def floor(size: str, method: str, windows: int, result: int, rate: dict[str, float]) -> float:
    """Return the seconds that nothing could save, given the bytes of the result."""
    stored = sum(path.stat().st_size for path in base(size).glob("*.safetensors"))
    seconds = stored / rate["read"] + result / rate["write"]
    if method == "rtn":
        return seconds
    blocks = int(SHAPES[size]["num_hidden_layers"])
    low, high = operations(size, method, windows * LENGTH)
    return seconds + blocks * (low / rate[compute_dtype("cpu")] + high / rate["float32"])


def operations(size: str, method: str, tokens: int) -> tuple[float, float]:
    """Count a block's operations in the dtype that the model runs in, and in float32."""
    config = CONFIG | SMALL | SHAPES[size]
    linears = shapes(config).values()
    inputs = [config["hidden_size"]] * 3 + [config["intermediate_size"]]
    low = sum(2 * tokens * out * columns for out, columns in linears)
    low += sum(tokens * columns**2 for columns in inputs)  # one triangle of each Gram matrix
    if method == "gptq":
        factors = sum(columns**3 / 3 for columns in inputs)
        return low, factors + sum(out * columns**2 for out, columns in linears)
    # AWQ: 20 powers on 256 rows of each linear, then 22 clips on each group's own block.
    low += sum(20 * 2 * 256 * columns**2 for _, columns in linears)
    return low + sum(22 * 2 * out * columns * 128 for out, columns in linears), 0.0


if __name__ == "__main__":
    main()
