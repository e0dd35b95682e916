"""A model beside its base: both loaded in fresh processes, measured alike, and compared."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubq.client import Client
from hubq.evaluate.report import Measured
from hubq.progress import Progress
from hubq.recipe import EvaluateSection

if TYPE_CHECKING:
    from hubq.evaluate.jobs import ChoiceTask, Outcome, PerplexityTask, Task
    from hubq.evaluate.pairing import Matched


class Sides(NamedTuple):
    """What is compared."""

    result: Path  # a folder
    base: Callable[[], Path]  # brings the base's folder, once it is needed
    dtype: str  # of the base's weights


def measured(
    sides: Sides, section: EvaluateSection, client: Client, progress: Progress
) -> Measured:
    """Measure the result, then its base.

    The result is loaded and measured before the base is even fetched, so that a folder that
    doesn't load stops the run early. What was measured before of the same files is not repeated.
    """
    from hubq.device import best_device, device_title
    from hubq.evaluate.jobs import LoadTask
    from hubq.evaluate.measure import Labelled, library_versions, machine, measure
    from hubq.evaluate.pairing import measurement, overall

    tasks: list[Task] = [*perplexities_of(section, client), *choices_of(section)]
    where = machine(sides.dtype)
    label = Labelled(progress, "quantized")
    loading, *own = measure(sides.result, (LoadTask(), *tasks), where, client, label)
    base = measure(sides.base(), tasks, where, client, Labelled(progress, "base"))
    pairs = [
        (task.title, _paired(before, after, section.seed))
        for task, before, after in zip(tasks, base, own, strict=True)
    ]
    return Measured(
        measurements=tuple(measurement(pair) for _, found in pairs for pair in found),
        overall=overall(pairs),
        loader=loading.loader,
        device=device_title(best_device()),
        dtype=where.dtype,
        versions=library_versions(),
        seed=section.seed,
        seconds=sum(outcome.seconds for outcome in (loading, *own, *base)),
    )


def perplexities_of(section: EvaluateSection, client: Client) -> "Iterator[PerplexityTask]":
    """Turn texts into tasks; they are read, and kept where workers find them."""
    from hubq.dataset import corpus
    from hubq.evaluate.jobs import PerplexityTask, keep_text

    for each in section.perplexity:
        text = corpus(each.dataset, client, purpose="evaluation")
        yield PerplexityTask(
            dataset=text.title,
            version=text.version,
            text=keep_text(text.text),
            length=each.length,
            windows=each.windows,
        )


def choices_of(section: EvaluateSection) -> "Iterator[ChoiceTask]":
    """Turn names of tasks into tasks."""
    from hubq.evaluate.jobs import ChoiceTask
    from hubq.evaluate.zeroshot import definition
    from hubq.task_names import require_known

    require_known([each.name for each in section.tasks])
    for each in section.tasks:
        yield ChoiceTask(
            name=each.name,
            definition=definition(each.name),
            limit=section.limit,
            seed=section.seed,
        )


def _paired(base: "Outcome", own: "Outcome", seed: int) -> "list[Matched]":
    """Put the scores of one task side by side."""
    from hubq.evaluate.pairing import Matched

    both = zip(base.scores, own.scores, strict=True)
    return [Matched(before, after, seed) for before, after in both]
