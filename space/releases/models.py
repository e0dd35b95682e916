"""A released model: where its weights are and what its report says. No Gradio in here.

What can't be read is a Problem, a sentence for people; it never keeps the others from the list.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.records.adapted_report import kind_of_report
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import VERSION, Assessment, Interval, Measured, Measurement, Report
from hubq.records.vocabulary import mistake_in_reference
from hubq.stages.card.metadata import BUILT_WITH
from hubq.stages.compare.comparison import Entry, entry, families

LONGEST = 50_000_000  # bytes of a report; that of a 70B model has about one
ONLY_NUMBERS = " (numbers only)"  # behind the name of a model that can't answer


class Problem(NamedTuple):
    """What kept a model, or a whole source of models, from the list."""

    name: str  # the model, folder or organization
    sentence: str
    whole: bool = False  # whether nothing of that source could be listed


@dataclass(frozen=True)
class Weights:
    """Where weights lie: a repo at a commit, a folder, or what a recipe named as its model."""

    repo: str | None = None  # org/name@commit
    folder: Path | None = None
    section: ModelSection | None = None
    identity: str | None = None  # what the section has to be still; None: whatever it is now

    def __str__(self) -> str:
        """Name the place, for people and as a key of caches."""
        return self.repo or str(self.folder or self.identity or self._hub)

    @property
    def _hub(self) -> str | None:
        return self.section.hub if self.section else None

    def fetch(self, client: Client, progress: Progress = SILENT) -> Path:
        """Bring the model to this machine, verified, and return its folder.

        Raises UserError, in words for people, where that can't be done.
        """
        if self.folder is not None:
            if not (self.folder / "config.json").is_file():
                raise UserError(f"{self.folder} is gone since this list was made")
            return self.folder
        if self.repo is not None:
            from hubq.client.pull import pull

            return pull(self.repo, None, client, progress)
        return self._fetch_section(client, progress)

    def _fetch_section(self, client: Client, progress: Progress) -> Path:
        from hubq.sources.find import fetch, fetch_planned, find

        assert self.section is not None, "weights have a repo, a folder or a section"
        if self.identity is not None:
            return fetch_planned(self.section, self.identity, client, progress)
        return fetch(find(self.section, client), client, progress)


class Recovery(NamedTuple):
    """How much of the base's quality is left in one task: 1 is all of it."""

    task: str
    share: Interval
    base: float
    value: float


@dataclass(frozen=True)
class Released:
    """A model to look at and to compare: one of ours, or the base that others were made from."""

    name: str  # org/name
    base: str  # its base's name; its own where it is the base
    entry: Entry
    measured: Measured  # its report; a base has that of one of its quantizations
    weights: Weights | None  # None: only the report is at hand
    origin: str  # the organization, repo or folder by which it was found
    license: str | None = None
    private: bool = False
    card_url: str | None = None
    recipe_url: str | None = None
    card_file: Path | None = None  # README.md on this machine

    @property
    def is_base(self) -> bool:
        """Whether this is the model that the others were made from."""
        return self.name == self.base

    @property
    def sees(self) -> bool:
        """Whether it reads pictures too, as far as its report tells."""
        plan = self.measured.plan if isinstance(self.measured, Report) else None
        return plan is not None and plan.vision is not None and plan.vision.part == "all"

    @property
    def license_line(self) -> str:
        """The license, with the words that it wants to be shown."""
        license = self.license or "not known"
        built_with = BUILT_WITH.get(self.license or "")
        return f"{license}. {built_with}" if built_with else license

    @property
    def parameters(self) -> int | None:
        """Count the weights of the base."""
        measured = self.measured
        if isinstance(measured, Report):
            return measured.plan.parameters
        return measured.subject.parameters if isinstance(measured, Assessment) else None

    @property
    def divergence(self) -> Interval | None:
        """The mean KL divergence from the base in nats a token; None: not measured.

        Of a base it is what its dtype alone leaves of itself.
        """
        if (fidelity := self.measured.fidelity) is None:
            return None
        found = fidelity.floor if self.is_base else fidelity.result
        return found.mean if found else None

    @property
    def tokens_per_second(self) -> Interval | None:
        """The tokens that it decodes each second; None: not measured."""
        efficiency = self.measured.efficiency
        if efficiency is None:
            return None
        cost = efficiency.base if self.is_base else efficiency.result
        return cost.tokens_per_second

    @cached_property
    def recoveries(self) -> tuple[Recovery, ...]:
        """What is left of the base in each task, in the report's order."""
        if self.is_base:
            return ()
        overall, left_out = self.measured.overall, self.measured.left_out
        chosen = (*overall.accuracies, *(each.accuracy for each in left_out)) if overall else None
        return tuple(
            Recovery(title(each), share, each.base, each.value)
            for each in self.measured.measurements
            if _is_shown(each, chosen) and (share := each.recovery) is not None
        )


class Listing(NamedTuple):
    """All models that were found, bases first, and what could not be listed."""

    models: tuple[Released, ...]
    problems: tuple[Problem, ...]

    def of_base(self, base: str) -> tuple[Released, ...]:
        """Return a base and its quantizations: only these are comparable."""
        return tuple(each for each in self.models if each.base == base)

    @property
    def choices(self) -> list[tuple[str, str]]:
        """Return a label and the name of each model; those of which only reports are here last."""
        ordered = sorted(self.models, key=lambda each: each.weights is None)
        return [(each.name + ONLY_NUMBERS * (each.weights is None), each.name) for each in ordered]

    @property
    def bases(self) -> tuple[str, ...]:
        """Name each base once, the one with the most quantizations first."""
        names = [each.base for each in self.models]
        return tuple(sorted(dict.fromkeys(names), key=lambda name: (-names.count(name), name)))


def released(
    measured: Measured, origin: str, weights: Weights | None, name: str | None = None
) -> Released:
    """Return the model of a report; `name` is what a repo is called by now."""
    row = entry(measured)
    if name is not None:
        row = row.model_copy(update={"name": name})
    plan = measured.plan if isinstance(measured, Report) else None
    license = (plan.recipe["publish"].get("license") or plan.license) if plan else None
    return Released(row.name, row.base, row, measured, weights, origin, license=license)


def base_of(model: Released, section: ModelSection | None) -> Released:
    """Return the base that a model was made from; `section` says where its weights are."""
    report = model.measured
    identity = report.plan.source if isinstance(report, Report) else None
    own = None if section is None else Weights(section=section, identity=identity)
    if own is None and mistake_in_reference(model.base) is None:
        # What was measured is not to be had here, but a model of that name may be on the Hub.
        own = Weights(section=ModelSection(hub=model.base))
    return replace(
        model,
        name=model.base,
        entry=families([report])[0].base,
        weights=own,
        private=False,
        card_url=None,
        recipe_url=None,
        card_file=None,
    )


def title(measurement: Measurement) -> str:
    """Name a measurement as charts do."""
    is_perplexity = measurement.task == "perplexity"
    about = brief(measurement.dataset) if is_perplexity else measurement.metric
    return f"{measurement.task} {about}"


def brief(text: str) -> str:
    """Drop from a data set's name what stands in brackets behind it, such as its package."""
    return re.sub(r"\s+\([^()]*\)$", "", text)


def _is_shown(measurement: Measurement, accuracies: tuple[str, ...] | None) -> bool:
    """Tell whether a measurement is its task's one accuracy, or no accuracy at all."""
    is_accuracy = measurement.metric in ("acc", "acc_norm")
    return accuracies is None or not is_accuracy or title(measurement) in accuracies


def read_report(path: Path, name: str) -> Measured | Problem:
    """Read a report of any version that this hubq knows."""
    if path.stat().st_size > LONGEST:
        return Problem(name, f"{name}: its report is longer than {LONGEST // 10**6} MB; not read.")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return Problem(name, f"{name}: its report is damaged (not JSON).")
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > VERSION:
        return Problem(
            name,
            f"{name}: its report is of version {version}; this hubq reads up to {VERSION}. "
            "Update hubq where this runs (on a Space: hubq space deploy).",
        )
    try:
        measured = kind_of_report(values).model_validate(values)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors()[:3])
        return Problem(
            name, f"{name}: its report can't be read ({where or 'it is not an object'})."
        )
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
