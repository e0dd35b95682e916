"""Make what `make gpu` needs on a machine without a network: PYTHONPATH=bench python -m gpu.bundle

build/gpu/wheels has the packages that such a machine lacks beside torch, transformers and numba, in
the versions of constraints.txt, and hubq itself. build/gpu/model is the last four blocks of
SmolLM2-135M-Instruct as a model of its own: in the place of embeddings are the hidden states that
enter these blocks, so each token of the text is a word of its own, and the head has a row of the
real one for each. Whatever runs on it meets the weights and outliers of a real model, in 33 MB.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from subject import RTN, calibration, recipe

from gpu.models import BUNDLE
from hubq.client.client import Client
from hubq.sources import calibration_tokens
from hubq.sources.find import fetch, find
from hubq.sources.shards import Weights, write
from hubq.sources.texts.find import text as corpus_text

ROOT = BUNDLE.parents[1]
LARGEST = 64 * 2**20  # bytes that such a machine takes, the repository among them
BLOCKS, SAMPLES, LENGTH = 4, 4, 512
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")
# huggingface_hub 2 is hubq's, and asks for its own transformers; the rest is what they import.
PACKAGES = (
    *("huggingface_hub", "transformers"),
    *("httpx2", "httpcore2", "anyio", "h11", "idna", "truststore"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
    *("compressed-tensors", "loguru", "psutil", "regex", "click"),
    *("rich", "markdown-it-py", "mdurl", "pygments"),
)  # fmt: skip


def main() -> None:
    """Make the bundle anew and print its size; exit with 1 if it is too large."""
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir(parents=True)
    write_model(BUNDLE / "model", BUNDLE / "text.txt")
    download(BUNDLE / "wheels")
    sizes = {each.name: size_of(each) for each in sorted(BUNDLE.iterdir())}
    tree = sum((ROOT / name).stat().st_size for name in tracked())
    total = sum(sizes.values()) + tree
    for name, size in {**sizes, "the repository": tree, "all": total}.items():
        print(f"{name:>16} {size / 2**20:6.1f} MiB")
    if total > LARGEST:
        sys.exit(f"more than the {LARGEST / 2**20:.0f} MiB that such a machine takes")


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of a folder's files."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(each.stat().st_size for each in files if each.is_file())


def tracked() -> list[str]:
    """List the files of the repository."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def download(folder: Path) -> None:
    """Download the wheels by name, none that they depend on beside these, and build hubq's."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    target = [f"--platform={each}" for each in PLATFORMS]
    subprocess.run(
        [*pip, "download", "--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}",
         *target, f"--constraint={ROOT / 'constraints.txt'}", f"--dest={folder}", *PACKAGES],
        check=True,
    )  # fmt: skip
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", str(ROOT)], check=True)
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # a later wheel would take it over


@torch.inference_mode()
def write_model(folder: Path, text: Path) -> None:
    """Write the last blocks of the model that reads the text of the quickstart recipe."""
    from transformers import AutoModel

    client, section = Client(), calibration(SAMPLES).model_copy(update={"length": LENGTH})
    base = fetch(find(recipe(RTN, SAMPLES).model, client), client)
    read = corpus_text(section.parts[0][0], client, purpose="calibration")
    ids = calibration_tokens.windows(read, base, section)  # (samples, length)
    model = AutoModel.from_pretrained(base, dtype=torch.bfloat16, trust_remote_code=False).eval()
    first = model.config.num_hidden_layers - BLOCKS
    entering = model(ids, output_hidden_states=True).hidden_states[first]
    weights, tokens = Weights(base), distinct(ids.flatten().tolist())
    tensors = {
        "model.embed_tokens.weight": entering.flatten(0, 1).contiguous(),
        "lm_head.weight": weights.rows("model.embed_tokens.weight", torch.tensor(tokens)),
        "model.norm.weight": weights.read("model.norm.weight"),
    }
    for name in weights.info:
        if (number := block_of(name)) >= first:
            own = name.replace(f".{number}.", f".{number - first}.", 1)
            tensors[own] = weights.read(name)
    folder.mkdir()
    write(folder / "model.safetensors", tensors)
    config = json.loads((base / "config.json").read_bytes()) | {
        "num_hidden_layers": BLOCKS, "vocab_size": len(tokens), "tie_word_embeddings": False,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    words = [f"t{number}" for number in range(len(tokens))]
    write_tokenizer(folder, words)
    text.write_text(" ".join(words))


def distinct(tokens: list[int]) -> list[int]:
    """Put a token that isn't there in the place of each that came before: no two logits are equal.

    Where two were, a device might take either for the likeliest.
    """
    unused = iter(sorted({*range(2 * len(tokens))} - {*tokens}))
    seen: set[int] = set()
    found = []
    for token in tokens:
        found.append(next(unused) if token in seen else token)
        seen.add(token)
    return found


def block_of(name: str) -> int:
    """Return the number of the block that a tensor is of, or -1."""
    parts = name.split(".")
    return int(parts[2]) if parts[:2] == ["model", "layers"] else -1


def write_tokenizer(folder: Path, words: list[str]) -> None:
    """Write a tokenizer that knows so many words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    main()
