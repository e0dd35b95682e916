"""The stage that adapts: run/model goes in, run/adapted/model comes out."""

from pathlib import Path

from hubq.client.client import Client
from hubq.machine.progress import SILENT, Progress
from hubq.records.adaptation import Adaptation
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan


def adapt(
    plan: Plan, checkpoint: Checkpoint, run: Path, client: Client, progress: Progress = SILENT
) -> Adaptation:
    """Adapt run/model as the recipe's section says, save run/adapted/adaptation.json.

    A killed run goes on where it stopped, and ends with the same bytes.
    """
    raise NotImplementedError
