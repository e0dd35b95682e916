"""A finished run folder with made-up values, for the tests of what comes after the measuring."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hubq.machine.files import sha256_of
from hubq.records.checkpoint import Checkpoint, Prompting, QuantizedLayer
from hubq.records.plan import Plan, PlannedModule
from hubq.records.report import (
    Cost,
    Divergence,
    Efficiency,
    Fidelity,
    Flips,
    Interval,
    Measurement,
    Overall,
    Report,
)
from hubq.stages.compare.comparison import entry
from hubq.stages.compare.reports import Siblings

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
    values |= changes
    above, below = values["value"], values["base"]
    if values["better"] == "lower":
        above, below = below, above
    return Measurement(**{"recovery": Interval(value=above / below), **values})


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


def full_report(**changes: object) -> Report:
    """Return a report in which everything was measured."""
    tasks = [
        _task("piqa", 0.6812, 0.6758, 31, 21, 60),
        _task("boolq", 0.7211, 0.6503, 301, 70, 371),
        _task("truthfulqa_mc1", 0.2511, 0.2487, 12, 10, 40, dimension="alignment"),
    ]
    interval = {"difference": Interval(value=3.61, low=3.22, high=4.01), "paired": True}
    overall = Overall(
        accuracies=("piqa acc", "boolq acc"),
        base=0.7011,
        value=0.6631,
        difference=Interval(value=-0.038, low=-0.051, high=-0.026),
        recovery=Interval(value=0.9458, low=0.9273, high=0.9641),
    )
    values: dict[str, Any] = {
        "measurements": (measurement(**interval), *tasks),
        "overall": overall,
        "fidelity": Fidelity(
            dataset="xsum",
            version="sha256:5f3a",
            protocol="KL(base || result) in nats",
            result=_divergence(0.0612, 0.9134),
            floor=_divergence(0.00071, 0.9893),
        ),
        "efficiency": Efficiency(
            batch=1,
            prompt=64,
            output=32,
            repetitions=3,
            engine="transformers 5.23.0",
            hardware="Imaginary 9000, 4 threads",
            base=_cost(49152, 31.4),
            result=_cost(37312, 22.9),
        ),
        "checkpoint": made_checkpoint({"model.safetensors": "0" * 64}).model_copy(
            update={"prompting": PROMPTING}
        ),
    }
    return made_report(**{**values, **changes})


PROMPTING = Prompting(
    template="c" * 64,
    example="<|user|>\nWhat is a llama?\n<|assistant|>\n",
    sampling={"do_sample": True, "temperature": 0.6},
    same=("tokenizer.json", "tokenizer_config.json"),
    changed=(),
)


def _task(name: str, base: float, value: float, *flips: int, **changes: object) -> Measurement:
    """Return an accuracy of which all is known; the flips are answers lost, won and changed."""
    lost, won, changed = flips
    return measurement(
        task=name,
        dataset=f"{name}/validation",
        metric="acc",
        better="higher",
        base=base,
        base_stderr=0.0109,
        value=value,
        stderr=0.0111,
        difference=Interval(
            value=value - base, low=value - base - 0.012, high=value - base + 0.012
        ),
        recovery=Interval(value=value / base, low=value / base - 0.02, high=value / base + 0.02),
        paired=True,
        flips=Flips(lost=lost, won=won, changed=changed),
        samples=1838,
        protocol="zero shots",
        version="1.0",
        **changes,
    )


def _divergence(mean: float, agreement: float) -> Divergence:
    return Divergence(
        tokens=20440,
        mean=Interval(value=mean, low=0.9 * mean, high=1.1 * mean),
        median=mean / 3,
        percentile_99=9 * mean,
        agreement=Interval(value=agreement, low=agreement - 0.004, high=agreement + 0.004),
    )


def _cost(weight_bytes: int, speed: float) -> Cost:
    return Cost(
        weight_bytes=weight_bytes,
        load_seconds=1.234,
        memory_loaded=612_000_000,
        memory_peak=834_000_000,
        first_token_seconds=Interval(value=0.231, low=0.229, high=0.252),
        tokens_per_second=Interval(value=speed, low=0.98 * speed, high=1.01 * speed),
    )


def made_siblings(report: Report) -> Siblings:
    """Return two other releases: one with fewer bits, one that loses less."""
    own = entry(report)
    loss = own.divergence.value if own.divergence else 0.1
    others = {
        "acme/Tiny-Llama-QuIP-2bit": (2.02, 4 * loss),
        "acme/Tiny-Llama-RTN-8bit": (8.38, loss / 40),
    }
    entries = tuple(
        own.model_copy(
            update={"name": name, "stored_bits": bits, "divergence": Interval(value=loss)}
        )
        for name, (bits, loss) in others.items()
    )
    return Siblings(entries=entries)


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
