"""Offline: which option is right of a drawn picture in all rotations, as MMBench asks."""

from typing import ClassVar

from hubq.stages.evaluate.picture_benchmark import Drawing
from hubq.stages.evaluate.picture_tasks.mmbench_en_dev import MMBench


class Choices(MMBench):
    """The same over pictures that a seed draws."""

    data: ClassVar = Drawing("choices", 300)
