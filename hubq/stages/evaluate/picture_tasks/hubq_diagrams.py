"""Offline: which option a drawn diagram shows, asked and scored as AI2D."""

from typing import ClassVar

from hubq.stages.evaluate.picture_benchmark import Drawing
from hubq.stages.evaluate.picture_tasks.ai2d import AI2D


class Diagrams(AI2D):
    """The same over pictures that a seed draws."""

    data: ClassVar = Drawing("diagrams", 300)
