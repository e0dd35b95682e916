"""The clients that people use, each in a process of its own as they would start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_hub import FaultyHub

TRANSFORMERS = """
import sys, torch
from huggingface_hub import constants
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models

config = AutoConfig.for_model(
    "llama", vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(config)
vocabulary = {"<unk>": 0, **{chr(97 + n): n + 1 for n in range(26)}}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "<unk>")), unk_token="<unk>")
for way in ("xet", "lfs"):
    constants.HF_HUB_DISABLE_XET = way == "lfs"
    repo = f"acme/by-{way}"
    model.push_to_hub(repo)
    tokenizer.push_to_hub(repo)
    again = AutoModelForCausalLM.from_pretrained(repo)
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    print(way, same and AutoTokenizer.from_pretrained(repo)("a").input_ids == [1])
"""


@pytest.fixture
def environment(hub: FaultyHub, tmp_path: Path) -> dict[str, str]:
    """Give a client a home of its own and the hub's address, which it reads when it starts."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return {
        **inherited,
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
    }


def run(environment: dict[str, str], *command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_transformers_pushes_and_loads(hub: FaultyHub, environment: dict[str, str]) -> None:
    # Takes 5 s: a new process imports torch and transformers.
    told = run(environment, sys.executable, "-c", TRANSFORMERS)

    assert told.splitlines()[-2:] == ["xet True", "lfs True"]
    assert hub.faults.requests("POST", "/v1/shards")
    assert hub.faults.requests("PUT", "^/lfs/objects/")


@pytest.mark.parametrize("disable_xet", ["0", "1"])
def test_the_command_line_uploads_and_downloads(
    environment: dict[str, str], tmp_path: Path, disable_xet: str
) -> None:
    # Takes 4 s: five times a new process.
    environment["HF_HUB_DISABLE_XET"] = disable_xet
    hf = Path(sys.executable).with_name("hf")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(20_000))

    assert "local" in run(environment, hf, "auth", "whoami")
    run(environment, hf, "repos", "create", "acme/model")
    assert "/commit/" in run(environment, hf, "upload", "acme/model", folder, ".")
    run(environment, hf, "download", "acme/model", "--local-dir", tmp_path / "down")

    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "down" / name).read_bytes() == (folder / name).read_bytes()
