"""Offline: a number or a word that a drawn chart shows, asked and scored as ChartQA."""

from typing import ClassVar

from hubq.stages.evaluate.picture_benchmark import Drawing
from hubq.stages.evaluate.picture_tasks.chartqa import ChartQA


class Charts(ChartQA):
    """The same over pictures that a seed draws."""

    data: ClassVar = Drawing("charts", 300)
    limited_by_part: ClassVar = False
