"""Offline: words that stand in a drawn document, asked and scored as DocVQA."""

from typing import ClassVar

from hubq.stages.evaluate.picture_benchmark import Drawing
from hubq.stages.evaluate.picture_tasks.docvqa import DocVQA


class Documents(DocVQA):
    """The same over pictures that a seed draws."""

    data: ClassVar = Drawing("documents", 300)
