"""Which texts a model was measured on that its method knew: those of its calibration data set."""

import re
from typing import NamedTuple

from hubq.records.report import Report
from hubq.stages.card.sections.evaluation import perplexities

# What a report writes of a text behind its title: a digest of its file, or a repo and its commit.
VERSION = re.compile(r", (?=sha256:|[\w.-]+/[\w.-]+@)")

# What stands before each of several texts.
PART = re.compile(r"(?:^|; )\d+ windows of ")


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


def familiar(report: Report) -> list[Text]:
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


def fidelity_is_familiar(report: Report) -> bool:
    """Tell whether the text of the fidelity is of the data set of the calibration."""
    found = report.fidelity
    return found is not None and Text(found.dataset, found.version) in familiar(report)
