"""What a worker process is given to do: tasks of one model, and where their outcomes go."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from hubq.records.record import Record
from hubq.stages.evaluate.measurements import read
from hubq.stages.evaluate.task import Task, TextTask


class Order(Record):
    """A task, and the file that its outcome goes to."""

    task: Annotated[SerializeAsAny[Task], BeforeValidator(read)]
    outcome: Path

    @property
    def group(self) -> str:
        """What one worker carries out: all that reads one text, else the task alone."""
        return self.task.text if isinstance(self.task, TextTask) else self.outcome.stem


class Job(Record):
    """All that is measured of one model, by one worker or by several that share it."""

    folder: Path
    device: str
    dtype: str
    orders: tuple[Order, ...]
    by_blocks: str | None = None  # why the model isn't loaded whole; None: it is
    threads: int | None = None  # of this worker; None: as many as the machine says
    shared: Path | None = (
        None  # a folder in which each worker takes what it does; None: it is alone
    )
