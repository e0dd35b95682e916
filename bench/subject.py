"""What the benchmarks measure on: SmolLM2-135M-Instruct and the texts of the quickstart recipe."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hubq.client.client import Client
from hubq.machine.device import best_device, compute_dtype, device_title
from hubq.records.checkpoint import Checkpoint
from hubq.records.recipe_calibration import CalibrationSection
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe, read

RECIPES = Path(__file__).parent.parent / "recipes"
QUICKSTART = RECIPES / "quickstart_awq_4bit.yaml"
STUDIED = "meta-llama/Meta-Llama-3-8B"  # the recipes for it have the study's settings
GROUP_SIZE = 64  # what divides SmolLM2's 576 inputs


class Way(NamedTuple):
    """A method with its options, and the format of the result."""

    name: str  # the recipe's
    method: dict[str, Any]
    form: str = "compressed-tensors"


def studied() -> list[Way]:
    """List the ways to quantize that the recipes for LLaMA3-8B name, with groups of 64."""
    return _ways(read(path) for path in sorted(RECIPES.glob("*.yaml")) if _is_for(path, STUDIED))


def quickstarts() -> list[Way]:
    """List one way for each method: that of its first quickstart recipe."""
    found = _ways(map(read, sorted(RECIPES.glob("quickstart_*.yaml"))))
    return list({way.method["name"]: way for way in reversed(found)}.values())[::-1]


def _is_for(path: Path, model: str) -> bool:
    text = path.read_text()
    return f"model: {model}\n" in text and "\nmatrix:" not in text


def _ways(given: Iterable[Recipe]) -> list[Way]:
    found = []
    for each in given:
        method = each.model_dump(mode="json")["method"]
        if method.get("group_size", -1) > 0:
            method["group_size"] = GROUP_SIZE
        found.append(Way(each.name, method, each.format))
    return found


def recipe(way: Way, samples: int) -> Recipe:
    """Return the quickstart recipe with another method and so many windows of 512 tokens."""
    given = read(QUICKSTART)
    assert given.calibration is not None
    values = given.model_dump(mode="json") | {"method": way.method, "format": way.form}
    values["calibration"] |= {"samples": samples}
    return Recipe.model_validate(values)


RTN = Way("rtn", {"name": "rtn"})


def calibration(samples: int) -> CalibrationSection:
    """Return the calibration section that `recipe` has."""
    found = recipe(RTN, samples).calibration
    assert found is not None
    return found


def quantized(way: Way, samples: int, run: Path) -> Checkpoint:
    """Plan and quantize into a run folder."""
    run.mkdir(parents=True, exist_ok=True)
    client = Client()
    return quantize(plan(recipe(way, samples), run, client), run, client)


def alone(script: str, *arguments: str) -> Any:  # noqa: ANN401 - the JSON that the script prints
    """Run a benchmark script in a process of its own, whose memory is then its own too."""
    done = subprocess.run(
        [sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def heading(title: str) -> str:
    """Say what was measured, when, where and in which dtype."""
    cores = len(os.sched_getaffinity(0))
    device, day = best_device(), time.strftime("%Y-%m-%d")
    return f"{title} · {day} · {device_title(device)}, {cores} cores, {compute_dtype(device.type)}"
