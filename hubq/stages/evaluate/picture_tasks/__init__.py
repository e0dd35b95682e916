"""The tasks on pictures: one file each, whose name is the task's in recipes.

Each holds a `Benchmark` (`picture_benchmark.py` beside this folder has the contract): the data and
its pinned columns, the exact prompt, and the scorer. Prompts and scorers are lmms-eval's of version
0.7.3, with which published numbers were made. A name that begins with hubq_ is a task over pictures
that a seed draws, so that it needs no network. It may import what measurements may.
"""

from hubq.machine.modules import class_in
from hubq.stages.evaluate.picture_benchmark import Benchmark


def benchmark_named(name: str) -> Benchmark:
    """Return a task."""
    return class_in(f"{__name__}.{name}", Benchmark)()
