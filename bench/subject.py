"""What the benchmarks measure on: SmolLM2-135M-Instruct and the texts of the quickstart recipe."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hubq.client import Client
from hubq.device import best_device, device_title
from hubq.plan import plan
from hubq.quantize import Checkpoint, quantize
from hubq.recipe import CalibrationSection, Recipe, read

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart_awq_4bit.yaml"


def recipe(method: dict[str, Any], samples: int) -> Recipe:
    """Return the quickstart recipe with another method and so many windows of 512 tokens."""
    given = read(QUICKSTART)
    assert given.calibration is not None
    values = given.model_dump(mode="json") | {"method": method}
    values["calibration"] |= {"samples": samples}
    return Recipe.model_validate(values)


def calibration(samples: int) -> CalibrationSection:
    """Return the calibration section that `recipe` has."""
    found = recipe({"name": "rtn"}, samples).calibration
    assert found is not None
    return found


def quantized(method: dict[str, Any], samples: int, run: Path) -> Checkpoint:
    """Plan and quantize into a run folder."""
    run.mkdir(parents=True, exist_ok=True)
    client = Client()
    return quantize(plan(recipe(method, samples), run, client), run, client)


def alone(script: str, *arguments: str) -> Any:  # noqa: ANN401 - the JSON that the script prints
    """Run a benchmark script in a process of its own, whose memory is then its own too."""
    done = subprocess.run(
        [sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def heading(title: str) -> str:
    """Say what was measured, when and where."""
    cores = len(os.sched_getaffinity(0))
    return f"{title} · {time.strftime('%Y-%m-%d')} · {device_title(best_device())}, {cores} cores"
