"""Find models with their reports: an organization on a Hub, single repos, folders on this machine.

Nothing here raises for what others published: it becomes a Problem and the next one is read. The
list is made again when it is old, and kept when it can't be. Listing an organization again costs
one request: reports are kept on the disk by their commit.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from hubq.client.client import Client
from hubq.client.repo_files import commit_of, fetch_record
from hubq.errors import UserError
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Report
from hubq.records.run_folder import (
    ADAPTED,
    ADAPTER_CONFIG,
    REPORT,
    REPORT_IN_A_REPO,
    record_in,
)
from hubq.records.vocabulary import address
from releases.models import Listing, Problem, Released, Weights, base_of, read_report, released

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

AT_ONCE = 8  # downloads of reports
KNOCKING = 5.0  # seconds that a Hub may take to answer at all
MOST = 1000  # models of an organization
ABOUT: tuple[Literal["sha", "private", "siblings"], ...] = ("sha", "private", "siblings")
ON_THIS_MACHINE = ("folder", "gguf")  # keys of a recipe's model that mean nothing elsewhere
LIFETIME = 120.0  # seconds
FRESH = 5.0  # seconds in which nobody's wish makes it ask again


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
        with client.translate_errors(f"listing the models of {org}"):
            client.get("/api/models?limit=1", KNOCKING)
            infos = client.retries.call(
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
        with client.translate_errors(f"looking up {repo}"):
            client.get("/api/models?limit=1", KNOCKING)
            info = client.retries.call(
                lambda: client.api().model_info(name, revision=revision, expand=[*ABOUT])
            )
    except UserError as error:
        yield Problem(repo, str(error), whole=True)
        return
    yield _of_repo(info, repo, client)


def _of_repo(info: "ModelInfo", origin: str, client: Client) -> Released | Problem:
    """Read the report of a repo at its commit; what was read before comes from the disk."""
    name, files = info.id, {each.rfilename for each in info.siblings or ()}
    if REPORT_IN_A_REPO not in files:
        return Problem(name, f"{name} has no {REPORT_IN_A_REPO}: hubq did not publish it.")
    try:
        with client.translate_errors(f"reading the report of {name}"):
            path = fetch_record(client, name, REPORT_IN_A_REPO, commit_of(info))
    except UserError as error:
        return Problem(name, str(error))
    measured = read_report(path, name)
    if isinstance(measured, Problem):
        return measured
    place = f"{client.url}/{name}"
    # An adapter alone can't answer; its numbers are those of both together.
    weights = None if ADAPTER_CONFIG in files else Weights(repo=f"{name}@{info.sha}")
    return replace(
        released(measured, origin, weights, name),
        private=bool(info.private),
        card_url=place,
        recipe_url=f"{place}/blob/{info.sha}/hubq/recipe.yaml",
    )


def _in_folder(folder: Path) -> Iterator[Released | Problem]:
    """Read a run, a pulled repo or a card's folder; or a folder of such folders."""
    if own := record_in(folder, REPORT):
        yield _of_folder(folder, own, str(folder))
        if adapted := record_in(folder / ADAPTED, REPORT):
            yield _of_folder(folder / ADAPTED, adapted, str(folder))
        return
    inner = [
        (each, report) for each in sorted(folder.iterdir()) if (report := record_in(each, REPORT))
    ]
    if not inner:
        sentence = (
            f"{folder} has no report.json, so it is not a run, a card or a pulled model of hubq."
        )
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


class Catalogue:
    """What the sources hold, at most `lifetime` seconds old; all visitors share one."""

    def __init__(
        self,
        sources: Sources,
        client: Client,
        lifetime: float = LIFETIME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sources, self.client = sources, client
        self._lifetime, self._clock = lifetime, clock
        self._lock = Lock()
        self._known: Listing | None = None
        self._time = 0.0

    def listing(self, *, anew: bool = False) -> Listing:
        """Return the models; ask the sources if the last answer is old, or `anew` is wanted.

        While one visitor's call asks them, the others get the last answer at once.
        """
        known = self._known
        if known is not None and self._is_fresh(anew):
            return known
        if not self._lock.acquire(blocking=known is None):
            assert known is not None, "who knows nothing waits"
            return known
        try:
            if self._known is None or not self._is_fresh(anew):
                self._known = _kept(find(self.sources, self.client), self._known)
                self._time = self._clock()
            return self._known
        finally:
            self._lock.release()

    def _is_fresh(self, anew: bool) -> bool:
        return self._clock() - self._time <= (FRESH if anew else self._lifetime)

    def pick(self, name: str) -> Released | Problem:
        """Return a model by its name, or say that it is gone."""
        for listing in (self.listing(), self.listing(anew=True)):
            for each in listing.models:
                if each.name == name:
                    return each
        return Problem(
            name,
            f"{name} is not here any more: it was deleted, renamed or made private, or never was "
            "here. Choose another model.",
        )


def _kept(now: Listing, before: Listing | None) -> Listing:
    """Keep what was known of a source that can't be asked at the moment, and say so."""
    silent = {each.name for each in now.problems if each.whole}
    known = {each.name for each in now.models}
    old = [
        each
        for each in (before.models if before else ())
        if each.origin in silent and each.name not in known
    ]
    if not old:
        return now
    names = ", ".join(sorted({each.origin for each in old}))
    note = Problem(names, f"What was known of {names} before is shown.")
    models = sorted((*now.models, *old), key=lambda each: (each.base, not each.is_base))
    return Listing(tuple(models), (*now.problems, note))
