"""How a quantized model was adapted: by which settings, on which data, and how that went."""

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.machine.files import gigabytes
from hubq.records.adaptation import Adaptation, Curve, HeldOut, Taught
from hubq.records.adapted_report import AdaptedReport
from hubq.records.number_format import NOT_MEASURED, number, signed
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.sources.data_license import duties_of_data
from hubq.sources.instructions.layouts import PROMPTS
from hubq.stages.card.sections.adapted_gains import by_chance, gained, rows
from hubq.stages.card.sections.quantization_details import Setting, option
from hubq.stages.plan.adapted_run import belongs_to

if TYPE_CHECKING:
    from hubq.methods.adapters import Adapter

# Of a recipe's section, what is no setting of the adapter: the data has lines of its own.
NO_SETTINGS = ("name", "dataset", "merge")
ASKED = "What is a llama?"


def context(report: Report) -> dict[str, Any]:
    """Return the names that templates use of what is adapted; None where nothing is."""
    plan = report.plan
    names = {
        "adaptation": None,
        "adapted_with": "",
        "made_at": plan.nominal_bits,
        "adapter": None,
        "adapted_to": plan.adaptation and plan.adaptation.repo,
        "quantized": None,
        "belongs_to": None,
        "pinned": None,
        "gains": None,
        "gained": None,
        "lessons": None,
        "learnt": None,
        "layout": None,
        "prompt": None,
        "corrected": None,
        "glance": None,
        "data_duties": (),
    }
    if not isinstance(report, AdaptedReport):
        adapts = plan.adaptation is not None
        return {**names, "adapter": adapter_of(plan) if adapts else None}
    taught = report.adaptation.taught
    libraries = report.adaptation.versions.items()
    return {
        **names,
        "adaptation": report.adaptation,
        "adapted_with": ", ".join(f"{name} {value}" for name, value in sorted(libraries)),
        "adapter": adapter_of(plan),
        "adapted_to": None,
        "quantized": quantized_in(plan),
        "belongs_to": model_of(plan),
        "pinned": pinned(plan),
        "gains": rows(report),
        "gained": gained(report),
        "lessons": settings(report),
        "learnt": learnt(report.adaptation.held_out),
        "layout": layout(taught),
        "prompt": _as_code(layout(taught)),
        "corrected": corrected(report.adaptation),
        "glance": glance(report),
        "data_duties": duties_of_data(taught.license) if taught else (),
    }


def adapter_of(plan: Plan) -> "type[Adapter]":
    """Return the adapter's class, which knows its title and its paper."""
    from hubq.methods.adapters import adapter_class

    return adapter_class(plan.recipe["adapt"]["name"])


def quantized_in(plan: Plan) -> str:
    """Return the Hub id of the quantized model that was adapted."""
    assert plan.adaptation is not None, "the plan of something adapted"
    return plan.adaptation.quantized.partition("@")[0]


def model_of(plan: Plan) -> str | None:
    """Return the Hub id of the model that an adapter is loaded on; None: it is a whole model."""
    found = belongs_to(plan)
    return found and found.partition("@")[0]


def pinned(plan: Plan) -> str | None:
    """Return what an adapter is loaded on, at its commit; None: it isn't known or published yet."""
    name = belongs_to(plan)
    return name if name is not None and "@" in name else None


def learnt(found: HeldOut | None) -> str:
    """Say how the loss on pairs that were held out changed."""
    if found is None:
        return f"The loss on pairs that were not learnt from: {NOT_MEASURED}."
    return (
        f"Its loss on the {number(found.pairs)} held-out pairs ({number(found.tokens)} tokens of "
        f"answers) went from {number(found.before)} to {number(found.after)} nats per token: "
        f"{signed(found.difference)}{by_chance(found.difference)}. The interval would hold 95 % "
        "of the results on other pairs."
    )


def settings(report: AdaptedReport) -> list[Setting]:
    """Return the adapter's options as its class describes them, and what it learnt from."""
    asked, made = report.plan.recipe["adapt"], report.adaptation
    fields = adapter_of(report.plan).model_fields
    options = [
        Setting(name, option(value), (fields[name].description or "") if name in fields else "")
        for name, value in asked.items()
        if name not in NO_SETTINGS and value is not None
    ]
    return [*options, *(_data(made.taught, made, asked) if made.taught else _text(made))]


def _data(taught: Taught, made: Adaptation, asked: dict[str, Any]) -> list[Setting]:
    seen = made.steps * asked["batch_size"] * taught.tokens / max(1, taught.pairs)
    unused = [f"{number(count)} with {why}" for why, count in taught.left_out.items()]
    return [
        Setting("data", taught.title, f"version {taught.version}"),
        Setting("license of the data", taught.license or "not known", "it binds beside the base's"),
        Setting("pairs learnt from", number(taught.pairs), f"held out: {number(taught.held_out)}"),
        Setting("pairs left out", "; ".join(unused) or "none", "rows that hold no usable pair"),
        Setting("pairs cut", number(taught.cut), "their prompt or answer was too long"),
        Setting(
            "tokens of all pairs",
            number(taught.tokens),
            f"{number(taught.answer_tokens)} of them are learnt to be predicted",
        ),
        Setting("tokens seen, about", number(round(seen)), "by the end of the training"),
    ]


def _text(made: Adaptation) -> list[Setting]:
    text = made.calibration_text or NOT_MEASURED
    return [
        Setting("calibration text", text, "the text whose inputs say which errors count"),
        Setting("calibration tokens", number(made.calibration_tokens), "of that text"),
    ]


def layout(taught: Taught | None) -> str | None:
    """Return a question as pairs were laid out; None where the chat template or nothing did."""
    prompt = PROMPTS.get(taught.template) if taught is not None else None
    return None if prompt is None else prompt(ASKED, "")


def _as_code(text: str | None) -> list[str] | None:
    """Return a text as literals of Python, a paragraph each."""
    if text is None:
        return None
    *paragraphs, last = text.split("\n\n")
    return [json.dumps(f"{each}\n\n") for each in paragraphs] + [json.dumps(last)]


def corrected(made: Adaptation) -> list[str]:
    """Say of each fact about layers between which values it lies."""
    found: dict[str, list[float]] = {}
    for layer in made.layers:
        for name, value in layer.facts.items():
            found.setdefault(name.replace("_", " "), []).append(value)
    return [
        f"{name}: {number(min(values))} to {number(max(values))} in {number(len(values))} layers"
        for name, values in sorted(found.items())
    ]


def curve_of(report: Report) -> Curve | None:
    """Return how the loss of what a report is about went, if it was trained."""
    return report.adaptation.curve if isinstance(report, AdaptedReport) else None


def is_adapter(report: Report) -> bool:
    """Tell whether a report is about an adapter that is published alone."""
    return isinstance(report, AdaptedReport) and report.adaptation.makes == "adapter"


def of_curve(report: Report) -> str:
    """Say in words what the picture of the loss shows; nothing where there is no curve."""
    curve = curve_of(report)
    if curve is None or len(curve.losses) < 2:
        return ""
    held = curve.held_out_losses
    more = f"; on held-out pairs from {number(held[0])} to {number(held[-1])}" if held else ""
    return (
        f"Loss in nats per token over {number(curve.steps[-1])} steps: from "
        f"{number(curve.losses[0])} to {number(curve.losses[-1])} on what is learnt{more}."
    )


class Line(NamedTuple):
    """One line of an adapter's table at a glance."""

    title: str
    value: str


def glance(report: AdaptedReport) -> list[Line]:
    """Return what an adapter takes beside its model."""
    made, checkpoint = report.adaptation, report.checkpoint
    added = f"{number(made.added_bits)}, beside {number(checkpoint.linear_bits)} of the model"
    return [
        Line("size of the adapter", gigabytes(made.weight_bytes)),
        Line("size of the model that it belongs to", gigabytes(checkpoint.weight_bytes)),
        Line("numbers in it", number(made.parameters)),
        Line("stored bits per weight of the linears", added),
    ]
