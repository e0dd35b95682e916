"""What adapting gives, and what it costs: python bench/adapt.py [WORD ...]

SmolLM2-135M-Instruct, quantized with groups of 64 and calibrated on NarrativeQA (32 windows of 512
tokens), then adapted in each way. What is there for all texts, low_rank and PEQA, is measured on
them beside the model itself: perplexity on XSum (40 windows of 512) and on BoolQ's passages, and
the divergence on XSum. What was learnt shows on pairs that were held out, in nats a token of their
answers, with 95 % intervals.

Pairs come from the wheel of texts: QLoRA and IR-QLoRA learn the answers to questions of SIQA and
CommonsenseQA, PEQA to go on with NarrativeQA's passages, cut in two.

A step's floor, measured in the same process: three forward passes of the 16-bit model over as many
tokens, as the way back takes two. Words choose the ways whose names begin with them; each runs in a
process of its own, and is printed as soon as it is there.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from quality import both_texts
from rich.console import Console
from rich.table import Table
from subject import GROUP_SIZE, QUICKSTART, alone, heading

from hubq.client.client import Client
from hubq.machine.device import best_device, compute_dtype
from hubq.records.adaptation import Adaptation
from hubq.records.plan import Plan
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Measured
from hubq.sources.find import fetch_planned
from hubq.sources.texts.find import text as corpus_text
from hubq.stages.adapt.adapt import adapt
from hubq.stages.evaluate.evaluate import evaluate, evaluate_adapted
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe, read

SAMPLES = 32
STEPS = 60
QUESTIONS = {
    "dataset": {"tasks": ["hubq_siqa", "hubq_commonsenseqa"]},
    "steps": STEPS,
    "batch_size": 8,
    "learning_rate": 5e-4,
    "rank": 16,
    "held_out": 256,
}
PASSAGES = {
    "template": "plain",
    "steps": STEPS,
    "batch_size": 8,
    "source_length": 32,
    "target_length": 128,
    "held_out": 64,
}
BEGINNING, WHOLE = 100, 1200  # characters of a passage: what is read, and all that is taken
NF4 = ({"name": "bitsandbytes", "data_type": "nf4"}, "bitsandbytes")
FOR_ALL_TEXTS = ("low_rank", "peqa")
# Of each way: the method, the format, and the section adapt.
WAYS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    **{
        f"low_rank_{bits}bit": (
            {"name": "gptq", "bits": bits, "group_size": GROUP_SIZE},
            "compressed-tensors",
            {"name": "low_rank", "rank": 32},
        )
        for bits in (3, 2)
    },
    **{
        f"peqa_{bits}bit": (
            {"name": "gptq", "bits": bits, "group_size": GROUP_SIZE},
            "compressed-tensors",
            {"name": "peqa", "learning_rate": rate} | PASSAGES,
        )
        for bits, rate in ((3, 1e-4), (2, 2e-4))
    },
    "qlora": (*NF4, {"name": "qlora"} | QUESTIONS),
    "ir_qlora": (*NF4, {"name": "ir_qlora"} | QUESTIONS),
}


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2])))
        return
    rows = []
    for name in WAYS:
        if name.startswith(tuple(sys.argv[1:]) or ""):
            rows.append(alone(__file__, "--one", name))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    Console(width=160).print(table(rows))


def table(rows: list[dict[str, Any]]) -> Table:
    """Set what was before beside what is after."""
    columns = ("way", "added bits", "XSum", "BoolQ", "KL", "held out", "seconds", "s a step")
    found = Table(*columns, "x floor", "peak MB", title=heading("before and after adapting"))
    for each in rows:
        pairs = each["held_out"]
        found.add_row(
            each["way"],
            f"{each['added_bits']:.2f}",
            *(f"{a:,.4g} to {b:,.4g}" for a, b in each["quality"] or ()),
            *([] if each["quality"] else ["-"] * 3),
            "-" if pairs is None else "{:.3f} to {:.3f} ({:+.3f}, {:+.3f})".format(*pairs),
            f"{each['seconds']:.0f}",
            "-" if pairs is None else f"{each['step']:.2f}",
            "-" if pairs is None else f"{each['step'] / each['floor']:.2f}",
            f"{each['memory'] / 1e6:,.0f}",
        )
    return found


def one(name: str) -> dict[str, Any]:
    """Quantize, adapt and measure in one way."""
    with tempfile.TemporaryDirectory() as folder:
        run, client = Path(folder) / "run", Client()
        planned = both_texts(plan(recipe(name, Path(folder) / "pairs.jsonl", client), run, client))
        planned.save(run / "plan.json")
        done = quantize(planned, run, client)
        made = adapt(planned, done, run, client)
        row = {"way": name, **costs(made), "quality": None, "held_out": None}
        if made.name in FOR_ALL_TEXTS:
            report = evaluate(planned, done, run, client)
            adapted = evaluate_adapted(report, made, run, client)
            before, after = measured(report), measured(adapted)
            row |= {"quality": list(zip(before, after, strict=True))}
        return row if made.held_out is None else row | learnt(planned, made)


def recipe(name: str, pairs: Path, client: Client) -> Recipe:
    """Return the quickstart recipe in one way; write the pairs that it needs, if any."""
    method, form, section = WAYS[name]
    given = read(QUICKSTART)
    assert given.calibration is not None
    if section.get("template") == "plain":
        assert given.calibration.dataset is not None
        write(pairs, corpus_text(given.calibration.dataset, client, purpose="calibration"))
        section = section | {"dataset": {"file": str(pairs)}}
    values = given.model_dump(mode="json") | {"method": method, "format": form, "adapt": section}
    values["calibration"] |= {"samples": SAMPLES}
    values["evaluate"] |= {"efficiency": None, "tasks": []}
    return Recipe.model_validate(values)


def write(path: Path, text: str) -> None:
    """Write passages, cut in two, as pairs."""
    places = range(0, len(text) - WHOLE, max(WHOLE, len(text) // 2000))
    with path.open("w") as file:
        for at in places:
            middle, end = at + BEGINNING, at + WHOLE
            pair = {"prompt": text[at:middle], "completion": text[middle:end]}
            file.write(json.dumps(pair) + "\n")


def costs(made: Adaptation) -> dict[str, Any]:
    """Return what adapting took."""
    return {
        "added_bits": made.added_bits,
        "seconds": made.seconds,
        "memory": made.peak_memory,
        "parts": made.seconds_by_part,
    }


def measured(found: Measured) -> list[float]:
    """Return both perplexities and the divergence."""
    assert found.fidelity is not None
    return [*(each.value for each in found.measurements), found.fidelity.result.mean.value]


def learnt(planned: Plan, made: Adaptation) -> dict[str, Any]:
    """Return the loss on pairs that were held out, the seconds of a step, and of its floor."""
    assert made.taught is not None
    assert made.held_out is not None
    tokens = made.taught.tokens / made.taught.pairs
    size = planned.recipe["adapt"]["batch_size"]
    model = ModelSection.model_validate(planned.recipe["model"])
    base = fetch_planned(model, planned.source, Client())
    passing = forward(base, size, round(tokens), planned.dtype)
    pairs = made.held_out
    return {
        "held_out": [pairs.before, pairs.after, pairs.difference.low, pairs.difference.high],
        "step": made.seconds_by_part["training"] / made.steps,
        "floor": 3 * passing,
    }


def forward(folder: Path, rows: int, tokens: int, stored: str) -> float:
    """Return the seconds in which the 16-bit model reads some rows, but for its head."""
    import transformers

    device = best_device()
    dtype = getattr(torch, compute_dtype(device.type, stored))
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=dtype, trust_remote_code=False).to(device).model
    ids = torch.randint(1000, (rows, tokens), device=device)
    least = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            began = time.perf_counter()
            model(ids, use_cache=False)
            least = min(least, time.perf_counter() - began)
    return least


if __name__ == "__main__":
    main()
