"""Find models with their reports: an organization on a Hub, single repos, folders on this machine.

Nothing here raises for what others published: it becomes a Problem and the next one is read.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from hubq.client import Client
from hubq.errors import UserError
from hubq.evaluate.report import VERSION, Assessment, Measured, Report
from hubq.hub_names import address
from hubq.recipe_inputs import ModelSection
from hubq.release import REPORT
from hubq.remote import commit_of, fetch_record
from hubq.siblings import REPORT as RECORD
from hubq.siblings import record_in
from releases.models import Listing, Problem, Released, Weights, base_of, released

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

AT_ONCE = 8  # downloads of reports
LONGEST = 50_000_000  # bytes of a report; that of a 70B model has about one
KNOCKING = 5.0  # seconds that a Hub may take to answer at all
MOST = 1000  # models of an organization
ABOUT: tuple[Literal["sha", "private", "siblings"], ...] = ("sha", "private", "siblings")
ON_THIS_MACHINE = ("folder", "gguf")  # keys of a recipe's model that mean nothing elsewhere


@dataclass(frozen=True)
class Sources:
    """Where to look: an organization, and repos or folders by name."""

    org: str | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Sources":
        """Read what `hubq space run` and `deploy` set; a bare Space looks at its own account."""
        names = environment.get("HUBQ_SPACE_MODELS", "").split("\n")
        return cls(
            org=environment.get("HUBQ_SPACE_ORG") or environment.get("SPACE_AUTHOR_NAME"),
            names=tuple(name for name in names if name),
        )


def find(sources: Sources, client: Client) -> Listing:
    """List all models of all sources, each base before its quantizations."""
    found: list[Released | Problem] = []
    for name in sources.names:
        found += _in_folder(Path(name)) if Path(name).is_dir() else _named(name, client)
    if sources.org is not None:
        found += _of_org(sources.org, client)
    models = _once(each for each in found if isinstance(each, Released))
    bases = _bases(models)
    problems = tuple(each for each in found if isinstance(each, Problem) and each.name not in bases)
    every = [*bases.values(), *(each for each in models if each.name not in bases)]
    every.sort(key=lambda each: (each.base, not each.is_base, _bits(each), each.name))
    return Listing(tuple(every), problems)


def _bits(model: Released) -> float:
    row = model.entry
    return row.model_bits if row.stored_bits is None else row.stored_bits


def _once(models: Iterable[Released]) -> list[Released]:
    """Keep of several models of one name the first whose weights are at hand."""
    kept: dict[str, Released] = {}
    for each in models:
        if each.name not in kept or (kept[each.name].weights is None and each.weights):
            kept[each.name] = each
    return list(kept.values())


def _bases(models: Iterable[Released]) -> dict[str, Released]:
    """Return the base of each model, with the perplexities that any report has of it."""
    bases: dict[str, Released] = {}
    for each in models:
        new = base_of(each, _section(each))
        old = bases.setdefault(new.name, new)
        kept = old if old.weights or not new.weights else new
        texts = {**new.entry.perplexities, **old.entry.perplexities}
        row = kept.entry.model_copy(update={"perplexities": texts, "base_perplexities": texts})
        bases[new.name] = replace(kept, entry=row)
    return bases


def _section(model: Released) -> ModelSection | None:
    """Return what the recipe names as its model, if that can be had on this machine."""
    if not isinstance(model.measured, Report):
        return None
    named: dict[str, Any] = model.measured.plan.recipe["model"]
    try:
        section = ModelSection.model_validate(named)
    except ValidationError:
        return None
    for key in ON_THIS_MACHINE:
        path = named.get(key)
        if path and not (Path(path).is_absolute() and Path(path).exists()):
            return None
    return section


def _of_org(org: str, client: Client) -> Iterator[Released | Problem]:
    """List an organization's models in one request, then read the reports."""
    try:
        with client.speaking(f"listing the models of {org}"):
            client.get("/api/models?limit=1", KNOCKING)
            infos = client.patience.keep_trying(
                lambda: list(client.api().list_models(author=org, limit=MOST, expand=[*ABOUT]))
            )
    except UserError as error:
        yield Problem(org, str(error), whole=True)
        return
    if not infos:
        yield Problem(org, f"{org} has no models on {client.url} that this account can see.")
    with ThreadPoolExecutor(AT_ONCE) as executor:
        yield from executor.map(lambda info: _of_repo(info, org, client), infos)


def _named(repo: str, client: Client) -> Iterator[Released | Problem]:
    """Read one repo: org/name or org/name@revision."""
    if repo.startswith((".", "/", "~")) or repo.count("/") != 1:
        yield Problem(repo, f"{repo} is neither a folder here nor org/name on a Hub.", whole=True)
        return
    try:
        name, revision = address(repo)
        with client.speaking(f"looking up {repo}"):
            client.get("/api/models?limit=1", KNOCKING)
            info = client.patience.keep_trying(
                lambda: client.api().model_info(name, revision=revision, expand=[*ABOUT])
            )
    except UserError as error:
        yield Problem(repo, str(error), whole=True)
        return
    yield _of_repo(info, repo, client)


def _of_repo(info: "ModelInfo", origin: str, client: Client) -> Released | Problem:
    """Read the report of a repo at its commit; what was read before comes from the disk."""
    name = info.id
    if REPORT not in {each.rfilename for each in info.siblings or ()}:
        return Problem(name, f"{name} has no {REPORT}: hubq did not publish it.")
    try:
        with client.speaking(f"reading the report of {name}"):
            path = fetch_record(client, name, REPORT, commit_of(info))
    except UserError as error:
        return Problem(name, str(error))
    measured = read_report(path, name)
    if isinstance(measured, Problem):
        return measured
    place = f"{client.url}/{name}"
    return replace(
        released(measured, origin, Weights(repo=f"{name}@{info.sha}"), name),
        private=bool(info.private),
        card_url=place,
        recipe_url=f"{place}/blob/{info.sha}/hubq/recipe.yaml",
    )


def _in_folder(folder: Path) -> Iterator[Released | Problem]:
    """Read a run, a pulled repo or a card's folder; or a folder of such folders."""
    if own := record_in(folder, RECORD):
        yield _of_folder(folder, own, str(folder))
        return
    inner = [
        (each, report) for each in sorted(folder.iterdir()) if (report := record_in(each, RECORD))
    ]
    if not inner:
        sentence = f"{folder} holds no report.json: no run, card or pulled model of hubq is there."
        yield Problem(str(folder), sentence)
    for each, report in inner:
        yield _of_folder(each, report, str(folder))


def _of_folder(folder: Path, report: Path, origin: str) -> Released | Problem:
    measured = read_report(report, str(folder))
    if isinstance(measured, Problem):
        return measured
    places = (folder / "model", folder)
    model = next((each for each in places if (each / "config.json").is_file()), None)
    card = folder / "README.md"
    return replace(
        released(measured, origin, Weights(folder=model.resolve()) if model else None),
        card_file=card if card.is_file() else None,
    )


def read_report(path: Path, name: str) -> Measured | Problem:
    """Read a report of any version that this hubq knows."""
    if path.stat().st_size > LONGEST:
        return Problem(name, f"{name}: its report is longer than {LONGEST // 10**6} MB; not read.")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return Problem(name, f"{name}: its report is damaged (no JSON).")
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > VERSION:
        return Problem(
            name,
            f"{name}: its report is of version {version}; this hubq reads up to {VERSION}. "
            "Update hubq where this runs (on a Space: hubq space deploy).",
        )
    try:
        kind = Assessment if isinstance(values, dict) and "subject" in values else Report
        measured = kind.model_validate(values)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors()[:3])
        return Problem(name, f"{name}: its report can't be read ({where or 'it is no object'}).")
    if isinstance(measured, Report) and (missing := _missing(measured.plan.recipe)):
        return Problem(name, f"{name}: its report can't be read (plan.recipe.{missing}).")
    return measured


def _missing(recipe: Mapping[str, Any]) -> str | None:
    """Name what is missing, or is something else, of that in a report's recipe which is read here.

    Recipes of other hubqs may hold more or less than ours; a report carries them as they were.
    """
    for section in ("model", "method", "publish"):
        if not isinstance(recipe.get(section), Mapping):
            return section
    named = {"method.name": recipe["method"].get("name"), "format": recipe.get("format")}
    return next((key for key, value in named.items() if not isinstance(value, str)), None)
