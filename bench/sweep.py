"""What a sweep takes beside its runs one by one: python bench/sweep.py [--real]

Eight recipes of a tiny model, or with --real four of SmolLM2-135M with little to measure, each way
in a cache of its own: one by one as `hubq evaluate`, then `hubq sweep --stage evaluate` with one
and with two at once. The sum is what the runs of a way took by themselves; what the sweep took
beyond that, over the places that it had, is its own. Whatever else the machine does shows here too.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from subject import QUICKSTART, heading
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from hubq.machine.files import cache_folder

TINY: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
METHODS = {
    False: [{"name": ["rtn", "gptq"], "bits": [8, 4, 3, 2], "group_size": 32}],
    True: [{"name": ["rtn", "gptq"], "bits": [4, 3], "group_size": 64}],
}
SHARED = ("wheels", "machine")  # parts of the cache that every way starts with


def main() -> None:
    real = "--real" in sys.argv[1:]
    print(heading("seconds of wall time for all, summed over the runs, and the sweep's own"))
    print("way | all | sum of the runs | all / one by one | own, a run")
    with tempfile.TemporaryDirectory() as name:
        matrix = written(Path(name), real=real)
        files = expanded(matrix)
        alone = one_by_one(files)
        print(f"one by one | {alone:.0f} | {alone:.0f} | 1.00 | 0.0", flush=True)
        for at_once in (1, 2):
            taken, runs = swept(matrix, at_once)
            own = (taken - sum(runs) / at_once) / len(runs)
            print(
                f"--at-once {at_once} | {taken:.0f} | {sum(runs):.0f} | {taken / alone:.2f} | "
                f"{own:.1f}",
                flush=True,
            )


def written(folder: Path, *, real: bool) -> Path:
    """Write the matrix that is swept."""
    values: dict[str, Any] = yaml.safe_load(QUICKSTART.read_text())
    values["matrix"] = {"method": METHODS[real]}
    del values["method"]
    values["evaluate"] = {
        "perplexity": [{**values["evaluate"]["perplexity"][0], "windows": 4}],
        "efficiency": None,
    }
    values["calibration"] |= {"samples": 4, "length": 256}
    if not real:
        values["model"] = {"folder": str(tiny(folder / "tiny")), "base_model": "acme/tiny"}
        values["evaluate"]["perplexity"][0]["length"] = 256
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def tiny(folder: Path) -> Path:
    """Save a tiny random model whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**TINY), trust_remote_code=False)
    model.to(torch.bfloat16).save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=known, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>"
    ).save_pretrained(folder)
    return folder


def expanded(matrix: Path) -> list[Path]:
    """Write each recipe of a matrix to a file of its own."""
    from hubq.stages.recipe.matrix import read_matrix
    from hubq.stages.sweep.sweep import write_recipe

    files = []
    for member in read_matrix(matrix).members:
        path = matrix.parent / "single" / f"{member.recipe.name}.yaml"
        write_recipe(member.recipe, path)
        files.append(path)
    return files


def one_by_one(files: list[Path]) -> float:
    """Return the seconds in which the runs are done without a sweep."""
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        for path in files:
            hubq(Path(name), "evaluate", str(path))
        return time.perf_counter() - began


def swept(matrix: Path, at_once: int) -> tuple[float, list[float]]:
    """Return the seconds of a sweep, and those of each of its runs."""
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        said = hubq(
            Path(name),
            *("sweep", str(matrix), "--stage", "evaluate", "--at-once", str(at_once), "--json"),
        )
        taken = time.perf_counter() - began
    events = map(json.loads, said.splitlines())
    return taken, [each["seconds"] for each in events if each["event"] == "done"]


def hubq(folder: Path, *words: str) -> str:
    """Run a command in a folder, with a cache there; return what it prints."""
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    for part in SHARED:
        if not (cache / part).exists():
            (cache / part).symlink_to(cache_folder(part).absolute())
    done = subprocess.run(
        [sys.executable, "-m", "hubq", *words],
        cwd=folder,
        env={**os.environ, "HUBQ_CACHE": str(cache)},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
