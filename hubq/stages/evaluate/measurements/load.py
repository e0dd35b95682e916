"""Only load a model and run two tokens: even with nothing to measure, it must work."""

from pathlib import Path
from typing import ClassVar, Literal

from hubq.machine.progress import Progress
from hubq.stages.evaluate.task import Found, MeasuredModel, Task


class LoadTask(Task):
    """Ask for nothing but that the model loads, which a worker makes sure of before all tasks."""

    kind: Literal["load"] = "load"
    protocol_version: ClassVar = 3

    @property
    def title(self) -> str:
        """The task in a few words, for error messages."""
        return "loading"

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Find nothing more."""
        return Found()
