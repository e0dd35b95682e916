"""A model beside its base: both loaded in fresh processes, measured alike, and compared."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from hubq.client.client import Client
from hubq.machine.device import best_device, device_title
from hubq.machine.engines import vllm_python
from hubq.machine.progress import Progress
from hubq.records.recipe_evaluate import EvaluateSection, PerplexitySection
from hubq.records.report import Efficiency, Measured
from hubq.sources.task_names import measurements, picture_tasks, require_known
from hubq.sources.texts.corpus import Corpus
from hubq.sources.texts.find import corpus
from hubq.sources.texts.hub import most_tokens
from hubq.sources.vision import sees
from hubq.stages.evaluate.efficiency import efficiency
from hubq.stages.evaluate.fit import refuse_writing, why_by_blocks
from hubq.stages.evaluate.measure import Pair, library_versions, machine
from hubq.stages.evaluate.measurements import task_class
from hubq.stages.evaluate.measurements.choice import harness_task
from hubq.stages.evaluate.measurements.load import LoadTask
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask
from hubq.stages.evaluate.measurements.pictures import picture_task
from hubq.stages.evaluate.task import Outcome, Task, keep_text
from hubq.stages.plan.conditions import require_eyes

if TYPE_CHECKING:
    from hubq.stages.evaluate.fidelity import FidelityTasks


class ModelPair(NamedTuple):
    """What is compared."""

    result: Path  # a folder
    base: Path
    dtype: str  # of the base's weights
    label: str = "quantized"  # what progress calls the result


def measured(
    models: ModelPair, section: EvaluateSection, client: Client, progress: Progress
) -> Measured:
    """Measure the result and its base; what the section doesn't ask for stays None.

    What they cost comes first, or that the result loads at all: a folder that doesn't load stops
    the run before anything long. Then come all of the base in one job and all of the result in
    another, which needs the base's distributions. What was measured before of the same files is
    not repeated.
    """
    from hubq.stages.evaluate.fidelity import fidelity
    from hubq.stages.evaluate.paired_difference import (
        left_out,
        matched,
        matched_outcomes,
        measurement,
        overall,
    )

    if section.engine == "vllm":
        vllm_python()
    _require_eyes(models, section)
    texts = texts_of(section, client)
    tasks: list[Task] = [*perplexities_of(section, texts), *named_tasks(section, client)]
    where = machine(models.dtype, section.dtype)
    both = Pair(models.result, models.base, where, client, progress, models.label)
    _refuse_writing(both, tasks, section)
    costs, comparison = _efficiency(both, section), _comparison(both, section, texts)
    of_base = (*tasks, *(comparison.of_base(both) if comparison else ()))
    if costs is None and not both.knows(both.base, *of_base):
        both.of_result(LoadTask(), *(() if comparison else tasks))
    both.of_base(*of_base)
    compared = (comparison.compared,) if comparison else ()
    loading, *own = both.of_result(LoadTask(), *tasks, *compared)[: 1 + len(tasks)]
    found = list(matched_outcomes(both, tasks, own))
    pairs = [(task.title, matched(before, after, section.seed)) for task, before, after in found]
    return Measured(
        measurements=tuple(measurement(each) for _, scores in pairs for each in scores),
        overall=overall(pairs),
        left_out=left_out(pairs),
        fidelity=fidelity(both, comparison) if comparison else None,
        efficiency=costs,
        loader=loading.loader,
        by_blocks=_by_blocks([b for _, b, _ in found], [loading, *own]),
        device=device_title(best_device()),
        dtype=where.dtype,
        versions=library_versions(),
        seed=section.seed,
        seconds=loading.seconds + sum(b.seconds + o.seconds for _, b, o in found),
    )


def _by_blocks(
    of_base: Sequence[Outcome], of_result: Sequence[Outcome]
) -> tuple[Literal["base", "result"], ...]:
    """Say of which of both something was measured block by block."""
    sides: dict[Literal["base", "result"], Sequence[Outcome]]
    sides = {"base": of_base, "result": of_result}
    return tuple(side for side, found in sides.items() if any(each.by_blocks for each in found))


def _require_eyes(models: ModelPair, section: EvaluateSection) -> None:
    """Raise UserError for tasks on pictures where base or result reads text alone."""
    for folder in (models.base, models.result):
        require_eyes(section, sees=sees(folder), model=str(folder))


def texts_of(section: EvaluateSection, client: Client) -> list[Corpus]:
    """Read the texts of a section."""
    return [corpus(each.dataset, client, purpose="evaluation") for each in section.perplexity]


def _refuse_writing(both: Pair, tasks: Sequence[Task], section: EvaluateSection) -> None:
    """Raise UserError, before anything is measured, for texts by a model that isn't whole."""
    for folder in (both.base, both.result):
        if reason := why_by_blocks(folder, both.where.device, both.where.dtype):
            refuse_writing(tasks, section, reason)


def perplexities_of(section: EvaluateSection, texts: Sequence[Corpus]) -> Iterator[PerplexityTask]:
    """Turn texts into tasks, and keep them where workers find them."""
    for each, text in zip(section.perplexity, texts, strict=True):
        yield PerplexityTask(
            dataset=text.title,
            version=text.version,
            text=keep_text(text.text),
            length=each.length,
            windows=each.windows,
            at_most=_cap(each),
        )


def _cap(section: PerplexitySection) -> int | None:
    """Return how many windows papers evaluate at most, where the recipe doesn't say how many."""
    most = most_tokens(section.dataset)
    return None if most is None or section.windows else max(1, most // section.length)


def named_tasks(section: EvaluateSection, client: Client | None = None) -> Iterator[Task]:
    """Turn names of tasks into tasks: of kinds of measurements, on pictures, else of lm-eval.

    With a client, the data of those on pictures is pinned to the commit at which it is now.
    """
    require_known([each.name for each in section.tasks])
    for each in section.tasks:
        if each.name in measurements():
            yield task_class(each.name).asked(each, section)
            continue
        if each.name in picture_tasks():
            yield picture_task(each, section, client)
            continue
        yield harness_task(
            each.name,
            limit=section.limit,
            seed=section.seed,
            shots=each.shots,
            chat_template=each.chat_template,
        ).model_copy(update={"engine": section.engine})


def _comparison(
    both: Pair, section: EvaluateSection, texts: Sequence[Corpus]
) -> "FidelityTasks | None":
    """Compare next-token distributions on the first text, where that is asked for."""
    from hubq.stages.evaluate.fidelity import asked

    if section.fidelity is None or not texts:
        return None
    return asked(both, texts[0], section.perplexity[0].length, section.fidelity)


def _efficiency(both: Pair, section: EvaluateSection) -> Efficiency | None:
    """Measure what both take to run, where that is asked for."""
    if section.efficiency is None:
        return None
    return efficiency(both, section.efficiency, section.engine)
