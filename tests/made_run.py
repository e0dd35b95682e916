"""A finished run folder with made-up values, for the tests of what comes after the measuring."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hubq.digest import sha256_of
from hubq.evaluate import Measurement, Report
from hubq.plan import Plan, PlannedModule
from hubq.quantize import Checkpoint, QuantizedLayer

REPO = "acme/Tiny-Llama-GPTQ-4bit"
RECIPE: dict[str, Any] = {
    "name": "tiny_gptq_4bit",
    "model": {"hub": "meta-llama/Meta-Llama-3-8B", "base_model": None},
    "method": {"name": "gptq", "bits": 4, "group_size": 64, "damping": 0.01},
    "format": "compressed-tensors",
    "embeddings": 16,
    "calibration": {
        "dataset": {"hub": "acme/texts@abc123", "name": None},
        "samples": 32,
        "length": 512,
        "seed": 7,
    },
    "evaluate": {"perplexity": [], "tasks": [], "limit": None, "seed": 0},
    "publish": {"org": "acme", "name": None, "private": True, "license": None},
}


def made_plan(repo: str = REPO, **changes: object) -> Plan:
    """Return a plan of two matrices, one of them kept."""
    recipe = copy.deepcopy(RECIPE)
    recipe["publish"]["org"] = repo.partition("/")[0]
    values: dict[str, Any] = {
        "recipe": recipe,
        "source": "meta-llama/Meta-Llama-3-8B@8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920",
        "base_model": "meta-llama/Meta-Llama-3-8B",
        "license": "llama3",
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "modules": (
            PlannedModule(
                name="model.layers.0.mlp.up_proj",
                shape=(128, 64),
                quantized=True,
                bits=4.3125,
                bytes=4416,
            ),
            PlannedModule(name="lm_head", shape=(256, 64), quantized=False, bits=16.0, bytes=32768),
        ),
        "parameters": 24576,
        "base_bytes": 49152,
        "bytes": 37184,
        "nominal_bits": 4.0,
        "needed_bits": 4.28125,
        "linear_bits": 4.3125,
        "model_bits": 12.1,
        "peak_memory": 210_000_000,
        "seconds": 12.5,
        "repo": repo,
    }
    return Plan(**{**values, **changes})


def measurement(**changes: object) -> Measurement:
    """Return a perplexity that grew beyond the noise."""
    values: dict[str, Any] = {
        "task": "perplexity",
        "dataset": "xsum",
        "metric": "perplexity",
        "better": "lower",
        "base": 25.97,
        "base_stderr": 0.31,
        "value": 29.58,
        "stderr": 0.37,
        "samples": 40,
        "protocol": "First 40 windows of 512 tokens, each scored on its own.",
        "version": "sha256:5f3a",
    }
    return Measurement(**{**values, **changes})


def made_checkpoint(files: dict[str, str]) -> Checkpoint:
    """Return the checkpoint of a folder with these files."""
    return Checkpoint(
        files=files,
        layers=(
            QuantizedLayer(
                name="model.layers.0.mlp.up_proj",
                bits=4.3125,
                needed_bits=4.28125,
                error=0.01234,
                facts={"damping": 0.01},
            ),
        ),
        weight_bytes=37312,
        needed_bits=4.28125,
        linear_bits=4.3125,
        model_bits=12.15,
        calibration_tokens=16384,
        seconds=34.56,
        seconds_by_part={"forward": 20.1},
        peak_memory=345_600_000,
        device="cpu (Imaginary 9000)",
        versions={"torch": "2.13.0"},
    )


def made_report(files: dict[str, str] | None = None, **changes: object) -> Report:
    """Return a report of one perplexity and one task."""
    values: dict[str, Any] = {
        "plan": made_plan(),
        "checkpoint": made_checkpoint(files or {"config.json": "0" * 64, "LICENSE": "1" * 64}),
        "measurements": (
            measurement(),
            measurement(
                task="piqa",
                dataset="piqa/validation",
                metric="acc_norm",
                better="higher",
                base=0.6812,
                base_stderr=0.0109,
                value=0.6758,
                stderr=0.0111,
                samples=1838,
                protocol="Zero shots, length-normalized.",
                version="1.0",
            ),
        ),
        "loader": "transformers",
        "device": "cpu (Imaginary 9000)",
        "dtype": "bfloat16",
        "versions": {"hubq": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "seed": 3,
        "seconds": 78.9,
    }
    return Report(**{**values, **changes})


def make_run(
    run: Path,
    repo: str = REPO,
    *,
    private: bool = True,
    seed: int = 0,
    license: str | None = "Do as you like.\n",
) -> Report:
    """Fill a run folder up to its report, as the stages before would, and return the report."""
    model = run / "model"
    model.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(0, 2**31 - 1, (256, 64), generator=generator, dtype=torch.int32)
    save_file({"lm_head.weight_packed": weight}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (model / "tokenizer.json").write_text('{"model": {"vocab": {"llama": 0, "läma": 1}}}')
    if license is not None:
        (model / "LICENSE").write_text(license)
    files = {path.name: sha256_of(path) for path in sorted(model.iterdir())}
    plan = made_plan(repo)
    plan.recipe["publish"]["private"] = private
    plan.save(run / "plan.json")
    report = made_report(files, plan=plan)
    report.checkpoint.save(run / "checkpoint.json")
    report.save(run / "report.json")
    return report
