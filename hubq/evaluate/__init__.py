"""The stage that measures: the exported folder and its base, each loaded in a fresh process."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hubq.client import Client
from hubq.errors import UserError
from hubq.plan import Plan
from hubq.progress import SILENT, Progress
from hubq.quantize import Checkpoint
from hubq.recipe import EvaluateSection, ModelSection
from hubq.record import Record

if TYPE_CHECKING:
    from hubq.evaluate.jobs import Outcome, Task


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
    difference_stderr: float | None = None  # of value - base on the same samples, where paired
    samples: int
    left_out: int = 0  # rows of the data that hold no usable item
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
    """Measure run/model and its base, save run/report.json.

    The result is loaded and measured before the base is even fetched, so that a folder that
    doesn't load stops the run early. What was measured before of the same files is not repeated.
    """
    from hubq.device import best_device, device_title
    from hubq.evaluate.jobs import LoadTask
    from hubq.evaluate.measure import Labelled, library_versions, machine, measure
    from hubq.source import fetch_planned

    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    tasks = tasks_of(section, client)
    where = machine(plan.dtype)
    _refuse_changed(run / "model", checkpoint)
    label = Labelled(progress, "quantized")
    loading, *own = measure(run / "model", (LoadTask(), *tasks), where, client, label)
    model = ModelSection.model_validate(plan.recipe["model"])
    base_folder = fetch_planned(model, plan.source, client, progress)
    base = measure(base_folder, tasks, where, client, Labelled(progress, "base"))
    report = Report(
        plan=plan,
        checkpoint=checkpoint,
        measurements=tuple(_paired(base, own)),
        loader=loading.loader,
        device=device_title(best_device()),
        dtype=where.dtype,
        versions=library_versions(),
        seed=section.seed,
        seconds=sum(outcome.seconds for outcome in (loading, *own, *base)),
    )
    report.save(run / "report.json")
    return report


def tasks_of(section: EvaluateSection, client: Client) -> "tuple[Task, ...]":
    """Turn a recipe's section into tasks; their texts are read and kept where workers find them."""
    from hubq.dataset import corpus
    from hubq.evaluate.harness import harness_task
    from hubq.evaluate.jobs import PerplexityTask, keep_text
    from hubq.task_names import require_known

    require_known(section.tasks)
    texts = [corpus(each.dataset, client, purpose="evaluation") for each in section.perplexity]
    perplexities = (
        PerplexityTask(
            dataset=text.title,
            version=text.version,
            text=keep_text(text.text),
            length=each.length,
            windows=each.windows,
        )
        for each, text in zip(section.perplexity, texts, strict=True)
    )
    choices = (harness_task(name, limit=section.limit, seed=section.seed) for name in section.tasks)
    return (*perplexities, *choices)


def _refuse_changed(folder: Path, checkpoint: Checkpoint) -> None:
    """Raise UserError unless the folder holds just what `quantize` wrote."""
    from hubq.evaluate.measure import file_digests

    found = file_digests(folder)
    for name, digest in found.items():
        if checkpoint.files.get(name) != digest:
            raise UserError(
                f"{folder / name} is not what quantize wrote (another sha256); nothing was "
                "measured. Quantize again with --fresh"
            )
    gone = sorted(set(checkpoint.files) - set(found) - {"README.md"})
    if gone:
        raise UserError(f"{folder / gone[0]} is gone since quantize; run it again with --fresh")


def _paired(base: "Sequence[Outcome]", own: "Sequence[Outcome]") -> "Iterator[Measurement]":
    """Put the scores of the result beside those of its base."""
    from hubq.evaluate.perplexity import paired_stderr

    for before, after in zip(base, own, strict=True):
        for reference, score in zip(before.scores, after.scores, strict=True):
            assert (reference.task, reference.metric) == (score.task, score.metric)
            is_perplexity = score.metric == "perplexity"
            paired = paired_stderr(reference.items, score.items) if is_perplexity else None
            yield Measurement(
                **score.model_dump(exclude={"part_of", "dimension", "items", "answers"}),
                base=reference.value,
                base_stderr=reference.stderr,
                difference_stderr=paired,
            )
