"""The stage that makes the checkpoint: walk the model, pack what the method chose, write shards."""

import shutil
from pathlib import Path
from time import perf_counter

from hubq.client.client import Client
from hubq.machine.progress import SILENT, Progress
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.run_folder import CHECKPOINT


def quantize(plan: Plan, run: Path, client: Client, progress: Progress = SILENT) -> Checkpoint:
    """Write run/model and run/checkpoint.json; continue where a killed run stopped."""
    from hubq.stages.quantize.quantization import Quantization

    begin = perf_counter()
    work = Quantization(plan, run, client, progress)
    work.walk(progress)
    folder = work.assemble(run / "model")
    checkpoint = work.checkpoint(folder, perf_counter() - begin)
    checkpoint.save(run / CHECKPOINT)
    shutil.rmtree(work.finished.folder)
    return checkpoint
