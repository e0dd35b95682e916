"""What a quantized model still sees: python bench/vision.py FOLDER

RTN and GPTQ at 8, 4, 3 and 2 bits, groups of 64, on the language part of the model that
`bench/tiny_vision_model.py` trained into FOLDER; GPTQ is calibrated on its questions without their
pictures. Accuracy is that of the exported folder on the five offline tasks over drawn pictures, as
`hubq evaluate` measures it. Chance is what one gets who doesn't look.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from subject import heading
from tiny_vision_model import CALIBRATION

from hubq.client.client import Client
from hubq.records.checkpoint import Checkpoint
from hubq.records.report import Report
from hubq.sources.pictures.drawn import DRAWN
from hubq.stages.evaluate.evaluate import evaluate
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

METHODS = ("rtn", "gptq")
BITS = (8, 4, 3, 2)
TASKS = [f"hubq_{kind}" for kind in DRAWN]


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    table = Table("recipe", "stored", *TASKS, title=heading("accuracy of a model that sees"))
    for method in METHODS:
        for bits in BITS:
            asked = recipe(folder, method, bits)
            done, report = measured(asked)
            if table.row_count == 0:
                table.add_row("16-bit", "16", *scores(report, "base"))
            table.add_row(
                f"{method}_{bits}bit", f"{done.linear_bits:.2f}", *scores(report, "value")
            )
            print(asked.name, *scores(report, "value"), file=sys.stderr, flush=True)
    Console(width=120).print(table)


def recipe(folder: Path, method: str, bits: int) -> Recipe:
    """Return a recipe that quantizes the model in a folder and shows it drawn pictures."""
    asked = {"file": folder / CALIBRATION, "messages": "messages"}
    given: dict[str, Any] = {
        "name": f"{method}_{bits}bit",
        "model": {"folder": folder, "license": "apache-2.0"},
        "method": {"name": method, "bits": bits, "group_size": 64},
        "calibration": {"dataset": asked, "samples": 256, "length": 256},
        "evaluate": {"tasks": TASKS, "fidelity": None, "efficiency": None},
        "publish": {"org": "nobody"},
    }
    if method == "rtn":
        del given["calibration"]
    return Recipe.model_validate(given)


def measured(asked: Recipe) -> tuple[Checkpoint, Report]:
    """Quantize in a run folder that goes again, and measure what comes out."""
    with tempfile.TemporaryDirectory() as folder:
        run, client = Path(folder), Client()
        planned = plan(asked, run, client)
        done = quantize(planned, run, client)
        return done, evaluate(planned, done, run, client)


def scores(report: Report, whose: str) -> list[str]:
    """Return the main score of each task."""
    first = {each.task: each for each in reversed(report.measurements)}
    return [f"{getattr(first[task], whose):.3f}" for task in TASKS]


if __name__ == "__main__":
    main()
