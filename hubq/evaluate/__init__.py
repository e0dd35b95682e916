"""The stage that measures: the exported folder and its base, each loaded in a fresh process."""

from pathlib import Path
from typing import Literal

from hubq.client import Client
from hubq.plan import Plan
from hubq.progress import SILENT, Progress
from hubq.quantize import Checkpoint
from hubq.record import Record


class Measurement(Record):
    """One number with all that a reader needs to believe it."""

    task: str  # perplexity, or an lm-eval task's name
    dataset: str
    metric: str  # perplexity, acc, acc_norm
    better: Literal["lower", "higher"]
    base: float
    base_stderr: float | None
    value: float
    stderr: float | None
    samples: int
    protocol: str  # one sentence: windows, shots, normalization
    version: str  # of the task or the data: a task version, a revision, a sha256


class Report(Record):
    """Everything that was measured of one checkpoint, and how: the single source of numbers."""

    version: Literal[1] = 1
    plan: Plan
    checkpoint: Checkpoint
    measurements: tuple[Measurement, ...]
    loader: str  # what read the folder: transformers, or hubq's reader where that can't
    device: str
    dtype: str
    versions: dict[str, str]
    seed: int
    seconds: float


def evaluate(
    plan: Plan, checkpoint: Checkpoint, run: Path, client: Client, progress: Progress = SILENT
) -> Report:
    """Measure run/model and its base, save run/report.json."""
    raise NotImplementedError
