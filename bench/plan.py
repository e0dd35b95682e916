"""That `hubq plan` foretells the time within 30 %: python bench/plan.py [RECIPE ...]

Each quickstart recipe is planned, then quantized and measured in a cache of its own, so that
nothing is remembered; the libraries' start is among the seconds. Let nothing else run meanwhile.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from subject import RECIPES, heading

from hubq.machine.files import cache_folder

STAGES = ("quantize", "evaluate")


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in RECIPES.glob("quickstart_*.yaml"))
    columns = (f"{stage}: {what}" for stage in STAGES for what in ("plan", "real"))
    print(heading("seconds, as planned and as measured"))
    print(" | ".join(("recipe", *columns, "all, plan / real")), flush=True)
    for name in names:  # minutes each: shown as they come, so that stopping loses only one
        planned, real = compared(name)
        cells = [f"{each[stage]:.0f}" for stage in STAGES for each in (planned, real)]
        ratio = f"{sum(planned.values()) / sum(real.values()):.2f}"
        print(" | ".join((name, *cells, ratio)), flush=True)


def compared(name: str) -> tuple[dict[str, float], dict[str, float]]:
    """Plan a recipe, then run its stages; return the seconds of both by stage."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        cache.mkdir()
        for part in ("wheels", "models", "machine"):  # what was fetched, converted and timed
            (cache / part).symlink_to(cache_folder(part).absolute())
        run = Path(folder) / "run"
        hubq("plan", name, run, cache)  # what is not known of the machine yet is timed here
        estimate = json.loads(hubq("plan", name, run, cache))["estimate"]["seconds"]
        planned = {stage: sum(parts.values()) for stage, parts in estimate.items()}
        return planned, {stage: timed(stage, name, run, cache) for stage in STAGES}


def timed(stage: str, name: str, run: Path, cache: Path) -> float:
    """Run a stage and return its seconds."""
    began = time.perf_counter()
    hubq(stage, name, run, cache)
    return time.perf_counter() - began


def hubq(stage: str, name: str, run: Path, cache: Path) -> str:
    """Run a command of hubq on a recipe and return what it prints."""
    command = [sys.executable, "-m", "hubq", stage, RECIPES / f"{name}.yaml", "--run", run]
    done = subprocess.run(
        [*map(str, command), "--json"],
        env={**os.environ, "HUBQ_CACHE": str(cache)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
