"""What can be measured of a model: one file a kind, whose name is the kind's.

Each file holds a `Task` (`task.py` beside this folder has the contract): what is asked, and what a
worker does for it. It may import what a stage may, and of this one all but what starts workers and
sets a model against its base. torch, transformers and lm-eval are imported inside functions, since
who asks imports these files too.
"""

from collections.abc import Mapping
from typing import Any

from hubq.machine.modules import class_in, files_in
from hubq.stages.evaluate.task import Task


def kinds() -> list[str]:
    """List the kinds of measurements: the files in this folder."""
    return files_in(__path__)


def task_class(kind: str) -> type[Task]:
    """Return the task of a kind."""
    return class_in(f"{__name__}.{kind}", Task)


def read(task: Task | Mapping[str, Any]) -> Task:
    """Read a task back that went to another process as JSON."""
    return task if isinstance(task, Task) else task_class(task["kind"]).model_validate(task)
