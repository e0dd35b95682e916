"""What a repo says of how it was made, checked: nobody vouches for what lies on a Hub.

A recipe is read by the schema as a user's own is. It can name no code, no endpoint and no place on
the machine that reads it: files of its maker's are wanted from whoever makes the release again, and
are known by their sha256.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hubq.client.client import Client
from hubq.client.repo_files import RemoteFile, fetch_record, files_of, head_of, without_bars
from hubq.errors import UserError
from hubq.machine.device import DTYPES
from hubq.machine.files import sha256_of
from hubq.methods.adapters import TrainedAdapter
from hubq.records.adapted_report import AdaptedReport, load_report
from hubq.records.recipe_evaluate import EvaluateSection, PerplexitySection
from hubq.records.report import Report
from hubq.records.run_folder import IN_A_REPO, REPORT_IN_A_REPO
from hubq.records.vocabulary import Address, address, is_revision
from hubq.records.yaml_lines import RECIPE
from hubq.sources.texts.hub import asked_for, place_of
from hubq.stages.plan.differences import differences, understood
from hubq.stages.recipe.recipe import Recipe, read
from hubq.stages.recipe.text import presentable

RECIPE_IN_A_REPO = f"{IN_A_REPO}/recipe.yaml"
UNMEASURED = EvaluateSection(fidelity=None, efficiency=None)
OF_ADAPTING = ("adapted_name", "adapter_of", "quantized")  # keys of publish
SHA256 = re.compile(r"\bsha256:([0-9a-f]{64})\b")
WINDOWS = 10  # of a text, at most
SHOWN = 5


class Given(NamedTuple):
    """The files of a release's maker that lie here too."""

    base: Path | None = None  # a folder or a GGUF file
    data: tuple[Path, ...] = ()


class Text(NamedTuple):
    """A text that a release was measured on, and so many of its windows as are measured again."""

    section: PerplexitySection
    data: Mapping[str, str]  # its commit, by what the recipe asks for


class Released(NamedTuple):
    """A release with its recipe, as it is to be made again, and what has to be said of them."""

    repo: str
    commit: str
    report: Report
    recipe: Recipe
    files: Mapping[str, RemoteFile]
    data: Mapping[str, str]  # data sets of the Hub -> their commits
    text: Text | None  # None: it was measured on none, or on a file of its maker's
    remarks: tuple[str, ...]

    @property
    def is_adapted(self) -> bool:
        """Whether it was adapted once it was quantized."""
        return isinstance(self.report, AdaptedReport)


def released(reference: str, given: Given, client: Client) -> Released:
    """Look up org/name or org/name@revision without its weights.

    Raises UserError for what hubq didn't publish or can't read, and for files of its maker that
    are not given.
    """
    name, revision = address(reference)
    with client.translate_errors(f"reading how {reference} was made"), without_bars():
        commit, _ = head_of(client, name, revision)
        files = files_of(client, name, commit)
        for path in (REPORT_IN_A_REPO, RECIPE_IN_A_REPO):
            if path not in files:
                raise UserError(
                    f"{reference} holds no {path}, so nothing says how it was made: only what hubq "
                    "published can be made again"
                )
        report = load_report(fetch_record(client, name, REPORT_IN_A_REPO, commit))
        most = 4 * RECIPE.characters
        written = read(fetch_record(client, name, RECIPE_IN_A_REPO, commit, most))
    _require_plain(report)
    recipe = _pinned(_to_be_made(written, report), report)
    return Released(
        repo=name,
        commit=commit,
        report=report,
        recipe=_with_files(recipe, report, given),
        files=files,
        data=_commits(recipe, report),
        text=_measured_text(written, report),
        remarks=(*_changed_recipe(written, report), *_changed_files(report, files)),
    )


def _require_plain(report: Report) -> None:
    """Refuse what a plan says where it would be taken at its word."""
    said = {report.plan.compute_dtype, report.checkpoint.compute_dtype}
    if isinstance(report, AdaptedReport):
        said.add(report.adaptation.compute_dtype)
    if strange := said - {None, *DTYPES}:
        raise UserError(
            f"{REPORT_IN_A_REPO} of the repo says that it was computed in {next(iter(strange))!r}, "
            "which is no dtype: the records are damaged, ask the publisher"
        )


def _to_be_made(written: Recipe, report: Report) -> Recipe:
    """Leave out of a recipe what isn't made again: its measurements, and an adapter beside it."""
    changes: dict[str, Any] = {"evaluate": UNMEASURED}
    if written.adapt is not None and not isinstance(report, AdaptedReport):
        publish = written.publish.model_copy(update=dict.fromkeys(OF_ADAPTING))
        changes |= {"adapt": None, "publish": publish}
    return written.model_copy(update=changes)


def _pinned(recipe: Recipe, report: Report) -> Recipe:
    """Name the base at the commit that was quantized, where it is the one that the plan means."""
    if recipe.model.hub is None:
        return recipe
    name, _, commit = report.plan.source.partition("@")
    if name.lower() != address(recipe.model.hub).repo.lower() or not is_revision(commit):
        return recipe
    model = recipe.model.model_copy(update={"hub": f"{name}@{commit}"})
    return recipe.model_copy(update={"model": model})


def _changed_recipe(written: Recipe, report: Report) -> Iterator[str]:
    """Say where the recipe is not the one by which the report's model was made."""
    said, there = (
        {**presentable(each), "name": "", "evaluate": {}}
        for each in (understood(report.plan.recipe), written.model_dump(mode="json"))
    )
    if lines := differences(said, there):
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        told = "; ".join([*lines[:SHOWN], *more])
        yield (
            f"{RECIPE_IN_A_REPO} is not the recipe that {REPORT_IN_A_REPO} was made by; it is "
            f"followed all the same ({told})"
        )


def _changed_files(report: Report, files: Mapping[str, RemoteFile]) -> Iterator[str]:
    """Say which large files of the repo are not those that its report measured."""
    changed = [
        path
        for path, digest in report.files.items()
        if path in files and files[path].sha256 not in (None, digest)
    ]
    if changed:
        shown = ", ".join(changed[:SHOWN])
        yield f"the repo was changed after hubq published it: its report measured another {shown}"


def _commits(recipe: Recipe, report: Report) -> dict[str, str]:
    """Return the commits of the Hub's data sets, by the plan or, of before, by what was read."""
    found = {each: at for each, at in report.plan.data.items() if is_revision(at)}
    if found:
        return found
    said = report.checkpoint.calibration_text or ""
    for data, _ in recipe.calibration.parts if recipe.calibration else ():
        found |= _read_at(place_of(data), said)
    if isinstance(report, AdaptedReport) and (taught := report.adaptation.taught) is not None:
        adapter = recipe.adapt
        hub = adapter.dataset.hub if isinstance(adapter, TrainedAdapter) else None
        found |= _read_at(address(hub) if hub else None, f"{taught.repo}@{taught.version}")
    return found


def _measured_text(written: Recipe, report: Report) -> Text | None:
    """Return the first text that the report is of, at its commit; None: none that others get."""
    if not written.evaluate.perplexity:
        return None
    first = written.evaluate.perplexity[0]
    if first.dataset.file is not None:
        return None
    measured = next((each for each in report.measurements if each.task == "perplexity"), None)
    if measured is None:
        return Text(first, {})
    few = first.model_copy(update={"windows": min(WINDOWS, measured.samples)})
    return Text(few, _read_at(place_of(first.dataset), measured.version))


def _read_at(place: Address | None, said: str) -> dict[str, str]:
    """Find the commit of a data set in what a record says of it."""
    if place is None:
        return {}
    found = re.search(rf"(?<![\w./-]){re.escape(place.repo)}@([0-9a-f]{{40}})\b", said)
    return {asked_for(*place): found[1]} if found else {}


def _with_files(recipe: Recipe, report: Report, given: Given) -> Recipe:
    """Put given files in the places of those of the release's maker; refuse one that is missing."""
    _refuse_unknown(recipe, report, given)
    missing = []
    model = recipe.model
    if (local := model.folder or model.gguf) is not None:
        if given.base is None:
            missing.append(f"the base {local.name} ({report.plan.source}): --base PLACE")
        else:
            key = "folder" if model.folder is not None else "gguf"
            model = model.model_copy(update={key: given.base.absolute()})
    data = _data_files(recipe, report, given, missing)
    if missing:
        raise UserError(
            f"{report.plan.repo} was made from files on its maker's machine, which strangers can't "
            "get. Whoever has them names them:\n  " + "\n  ".join(missing)
        )
    return _replaced(recipe.model_copy(update={"model": model}), data)


def _refuse_unknown(recipe: Recipe, report: Report, given: Given) -> None:
    """Refuse given files that no part of a recipe was made from."""
    if given.base is not None and recipe.model.folder is None and recipe.model.gguf is None:
        raise UserError("--base is for a release from a file of its maker; leave it out")
    digests = recorded_digests(report)
    for path in given.data:
        if not path.is_file():
            raise UserError(f"there is no file {path}; correct --data")
        if (found := sha256_of(path)) not in digests:
            raise UserError(
                f"{path} (sha256 {found}) is none of the files that the release was made from; "
                f"those have sha256 {' or '.join(sorted(digests)) or '... none is recorded'}"
            )


def recorded_digests(report: Report) -> set[str]:
    """Return the sha256 of the files of data that a release was made from, as hex."""
    said = [report.checkpoint.calibration_text or ""]
    if isinstance(report, AdaptedReport) and report.adaptation.taught is not None:
        said.append(report.adaptation.taught.version)
    return {each for text in said for each in SHA256.findall(text)}


def _data_files(
    recipe: Recipe, report: Report, given: Given, missing: list[str]
) -> dict[Path, Path]:
    """Return which given file stands for each of the maker's; note those that none stands for."""
    wanted = [data.file for data, _ in recipe.calibration.parts] if recipe.calibration else []
    if isinstance(recipe.adapt, TrainedAdapter):
        wanted.append(recipe.adapt.dataset.file)
    own = dict.fromkeys(each for each in wanted if each is not None)
    found: dict[Path, Path] = {}
    for path in own:
        alone = given.data if len(own) == 1 else ()
        fitting = [each for each in given.data if each.name == path.name] or list(alone)
        if fitting:
            found[path] = fitting[0].absolute()
        else:
            known = ", ".join(sorted(recorded_digests(report))) or "not recorded"
            missing.append(f"the data {path.name} (sha256 {known}): --data FILE")
    return found


def _replaced(recipe: Recipe, files: Mapping[Path, Path]) -> Recipe:
    """Name other files of data in a recipe."""

    def moved(section: Any) -> Any:  # noqa: ANN401 - a section that may have a file
        place = files.get(section.file)
        return section if place is None else section.model_copy(update={"file": place})

    changes: dict[str, Any] = {}
    if (section := recipe.calibration) is not None:
        both = {
            "dataset": section.dataset and moved(section.dataset),
            "datasets": section.datasets and tuple(map(moved, section.datasets)),
        }
        changes["calibration"] = section.model_copy(update=both)
    if isinstance(recipe.adapt, TrainedAdapter):
        dataset = moved(recipe.adapt.dataset)
        changes["adapt"] = recipe.adapt.model_copy(update={"dataset": dataset})
    return recipe.model_copy(update=changes)
