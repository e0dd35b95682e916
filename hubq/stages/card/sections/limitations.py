"""What nobody should expect of the model, as far as the records tell.

Texts that the method knew are said too: those of its calibration data set.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from hubq.records.adapted_report import AdaptedReport
from hubq.records.number_format import NOT_MEASURED, number, share
from hubq.records.report import Measurement, Report
from hubq.sources.task_names import is_offline, picture_tasks
from hubq.stages.card.sections import vision
from hubq.stages.card.sections.evaluation import perplexities
from hubq.stages.card.sections.markdown import listed

# What a report writes of a text behind its title: a digest of its file, or a repo and its commit.
VERSION = re.compile(r", (?=sha256:|[\w.-]+/[\w.-]+@)")
# What stands before each of several texts.
PART = re.compile(r"(?:^|; )\d+ windows of ")


# MME's scores of a model that says yes to everything: half of the answers, and no whole picture.
SAYS_YES = {"perception": 500, "cognition": 200}


class Text(NamedTuple):
    """A text as reports name it."""

    title: str
    version: str

    @property
    def data_set(self) -> str:
        """Name what it is a part of: a repo, a folder of a wheel, or the file alone."""
        source = self.version.partition(" (")[0]
        if not source.startswith("sha256:"):
            return source.partition("@")[0]
        name, _, origin = self.title.partition(" (")
        folder = name.rpartition("/")[0]
        return f"{folder} ({origin}" if folder else source


def calibration_overlap(report: Report) -> list[Text]:
    """List the measured texts that are of the data set which the method was calibrated on."""
    known = {each.data_set for each in calibrated_on(report)}
    texts = [Text(each.dataset, each.version) for each in perplexities(report)]
    if (fidelity := report.fidelity) is not None:
        texts.append(Text(fidelity.dataset, fidelity.version))
    return [each for each in dict.fromkeys(texts) if each.data_set in known]


def calibrated_on(report: Report) -> list[Text]:
    """List the texts of the calibration, as far as its record is of today."""
    parts = PART.split(report.checkpoint.calibration_text or "")
    found = (VERSION.split(each, maxsplit=1) for each in parts)
    return [Text(*each) for each in found if len(each) == 2]


def fidelity_overlaps_calibration(report: Report) -> bool:
    """Tell whether the text of the fidelity is of the data set of the calibration."""
    found = report.fidelity
    return found is not None and Text(found.dataset, found.version) in calibration_overlap(report)


def limits(report: Report) -> list[str]:
    """Return the section's sentences."""
    return [
        *_loss(report),
        *_taught(report),
        *vision.limits(report),
        *_calibration(report),
        *_context(report),
        *_alignment(report),
        *_tasks(report),
    ]


def _loss(report: Report) -> Iterator[str]:
    """Say in numbers how much is lost."""
    for each in perplexities(report):
        ratio = number(each.value / each.base)
        yield (
            f"At {number(report.plan.nominal_bits)} bits, the perplexity on {each.dataset} is "
            f"{ratio} times the base's (from {number(each.base)} to {number(each.value)})."
        )
    if report.overall is not None:
        yield (
            f"It keeps {share(report.overall.recovery)} of the base's mean accuracy; it may lose "
            "more on what was not measured."
        )
    if not report.measurements:
        yield f"Quality: {NOT_MEASURED}."


def _taught(report: Report) -> Iterator[str]:
    """Say that a model has learnt what its data says, and how."""
    taught = report.adaptation.taught if isinstance(report, AdaptedReport) else None
    if taught is not None:
        yield (
            f"It has learnt from {taught.title}, mistakes and ways of saying things included: what "
            f"else that changed, and other ways to ask, are {NOT_MEASURED}."
        )


def _calibration(report: Report) -> Iterator[str]:
    calibration = calibrated_on(report)
    for each in calibration_overlap(report):
        what = "the same text" if each in calibration else "another part of the same data set"
        yield (
            f"The results on {each.title} are in-distribution: the model was calibrated on {what}, "
            "so it may lose more on other texts."
        )
    measured = listed(sorted({each.dataset for each in report.measurements}) or ["nothing"])
    if text := report.checkpoint.calibration_text:
        yield (
            f"It was calibrated on {text} and measured on {measured}: other languages and domains "
            f"are {NOT_MEASURED}."
        )
    else:
        yield f"It was measured on {measured}: other languages and domains are {NOT_MEASURED}."


def _context(report: Report) -> Iterator[str]:
    """Name the longest text that it was measured on."""
    section = report.plan.recipe["evaluate"]
    lengths = [each["length"] for each in section.get("perplexity", ())]
    if (costs := report.efficiency) is not None:
        lengths.append(costs.prompt + costs.output)
    if lengths:
        yield (
            f"The longest text it was measured on has {number(max(lengths))} tokens: longer "
            f"contexts are {NOT_MEASURED}."
        )


def _alignment(report: Report) -> Iterator[str]:
    if not any(each.dimension == "alignment" for each in report.measurements):
        yield f"Truthfulness, bias, and what it refuses to answer: {NOT_MEASURED}."


def _tasks(report: Report) -> Iterator[str]:
    """Say which scores are not comparable with published ones."""
    limit = report.plan.recipe["evaluate"].get("limit")
    tasks = [each for each in report.measurements if each.metric != "perplexity"]
    if tasks and limit:
        yield f"At most {number(limit)} items of each task were used."
    yield from _on_pictures(tasks)
    if own := _own(tasks):
        what = (
            "is a local variant of the task it is named after"
            if len(own) == 1
            else "are local variants of the tasks they are named after"
        )
        yield f"{listed(own)} {what}: compare with the base, not with scores published elsewhere."


def _own(tasks: list[Measurement]) -> list[str]:
    named = {each.task for each in tasks if is_offline(each.task)}
    return sorted(named - set(picture_tasks()))


def _on_pictures(tasks: list[Measurement]) -> Iterator[str]:
    """Say what scores on drawn pictures are worth, and what a score of MME is that is too low."""
    if drawn := sorted({each.task for each in tasks if is_offline(each.task)} - set(_own(tasks))):
        ask = "asks" if len(drawn) == 1 else "ask"
        yield (
            f"{listed(drawn)} {ask} about pictures that a seed drew: compare with the base, not "
            "with scores on photographs, charts or scans."
        )
    for each in tasks:
        least = SAYS_YES.get(each.metric, 0) if each.task == "mme" else 0
        if each.value < least:
            yield (
                f"Its MME {each.metric} of {number(each.value)} is less than the {least} of a "
                "model that says yes to everything: many of its answers are neither yes nor no."
            )
