"""What the card says of a model that sees: what stays, and how to show it a picture."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from hubq.machine.files import gigabytes
from hubq.records.number_format import NOT_MEASURED, number
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.sources.task_names import picture_tasks
from hubq.stages.card.sections.markdown import listed

QUESTION = "What does the picture show?"
PICTURE = "https://example.org/picture.png"  # a place for the reader's own


class Staying(NamedTuple):
    """One line of the table of what stays as it was."""

    name: str
    parameters: str
    size: str


def sees(plan: Plan) -> bool:
    """Tell whether what is published reads pictures too."""
    return plan.vision is not None and plan.vision.part == "all"


def context(report: Report) -> dict[str, Any]:
    """Return every name that the templates on seeing use."""
    plan = report.plan
    return {
        "vision": plan.vision,
        "sees": sees(plan),
        "label": label(plan),
        "stays": list(staying(plan)) if sees(plan) else [],
        "question": QUESTION,
        "request": request(plan),
    }


def label(plan: Plan) -> str:
    """Say which part of a model that sees this is; nothing of others."""
    vision = plan.vision
    if vision is None:
        return ""
    parts = listed([f"`{each.name}`" for each in vision.stays])
    size = f"{number(vision.parameters)} parameters, {gigabytes(vision.bytes)}"
    if vision.part == "language":
        return (
            f"**This is the language part alone** of a model that sees ({vision.title}): it reads "
            f"text, and no pictures. {parts} ({size}) are not in this repo. Below, the base is "
            "that part of the base."
        )
    return (
        f"Only the language part of this {vision.title} is quantized. What sees, {parts} "
        f"({size}), is the base's, byte for byte."
    )


def staying(plan: Plan) -> Iterator[Staying]:
    """List what is stored as in the base: what sees, then matrices of the language part."""
    assert plan.vision is not None, "only of what sees there is such a table"
    for each in plan.vision.stays:
        yield _staying(each.name, each.parameters, each.bytes)
    for module in plan.modules:
        if not module.quantized:
            rows, columns = module.shape
            yield _staying(module.name, rows * columns, module.bytes)


def _staying(name: str, parameters: int, size: int) -> Staying:
    return Staying(name, number(parameters), gigabytes(size))


def request(plan: Plan) -> str:
    """Return the body of a request to a server, with the address of a picture."""
    parts = [
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"type": "text", "text": QUESTION},
    ]
    return json.dumps({"model": plan.repo, "messages": [{"role": "user", "content": parts}]})


def limits(report: Report) -> Iterator[str]:
    """Say what nobody should conclude of a model that sees from what was measured."""
    vision = report.plan.vision
    if vision is None:
        return
    asked = [each.task for each in report.measurements if each.task in picture_tasks()]
    if vision.part == "language":
        yield "It sees nothing: the parts of the base that read pictures are not in this repo."
    elif asked:
        yield (
            f"What it sees was measured by {listed(list(dict.fromkeys(asked)))}, one picture a "
            f"question: several pictures, films and other languages are {NOT_MEASURED}."
        )
    else:
        yield f"What it makes of pictures: {NOT_MEASURED}. All that was measured is text alone."
