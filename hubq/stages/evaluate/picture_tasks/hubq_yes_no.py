"""Offline: two yes/no questions about each drawn picture, asked and scored as MME."""

from typing import ClassVar

from hubq.stages.evaluate.picture_benchmark import Drawing
from hubq.stages.evaluate.picture_tasks.mme import MME


class YesNo(MME):
    """The same over pictures that a seed draws."""

    data: ClassVar = Drawing("yes_no", 300)
    limited_by_part: ClassVar = False
