"""What can be measured of a model: one file a kind, whose name is the kind's.

Each file holds a `Task` (`task.py` beside this folder has the contract): what is asked, and what a
worker does for it. It may import what a stage may, and of this one all but what starts workers and
sets a model against its base. torch, transformers and lm-eval are imported inside functions, since
who asks imports these files too.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from hubq.stages.evaluate.task import Task


def kinds() -> list[str]:
    """List the kinds of measurements: the files in this folder."""
    return sorted(each.name for each in iter_modules(__path__))


def task_class(kind: str) -> type[Task]:
    """Return the task of a kind."""
    module = import_module(f"{__name__}.{kind}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Task)
        and value.__module__ == module.__name__
    )
    return found


def read(task: Task | Mapping[str, Any]) -> Task:
    """Read a task back that went to another process as JSON."""
    return task if isinstance(task, Task) else task_class(task["kind"]).model_validate(task)
