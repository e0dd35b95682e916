"""Make a release again from its own recipe, and say whether it came out the same.

What is made again is not published, nor measured unless that is asked for. Only the files that
were measured are compared: cards and records tell of times and of the day.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from hubq.client.client import Client
from hubq.client.pull import Snapshot, check, download
from hubq.client.repo_files import LocalFile, without_bars
from hubq.errors import UserError
from hubq.machine.files import read_object, write_atomically
from hubq.machine.progress import SILENT, Progress
from hubq.records.adaptation import Adaptation
from hubq.records.adapted_report import AdaptedReport
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.recipe_evaluate import EvaluateSection, FidelitySection
from hubq.records.report import Fidelity, Report
from hubq.records.reproduction import Apart, Reproduction, Verdict
from hubq.records.run_folder import (
    ADAPTATION,
    ADAPTED,
    ADAPTER,
    ADAPTER_CONFIG,
    BLOCKS,
    CHECKPOINT,
    MODEL,
    PLAN,
    REPORT,
    REPRODUCTION,
)
from hubq.sources.license_terms import is_license_file
from hubq.sources.weight_files import INDEX
from hubq.stages.adapt.adapt import adapt
from hubq.stages.adapt.adapter_files import WEIGHTS, renamed
from hubq.stages.evaluate.against_base import ModelPair, measured
from hubq.stages.evaluate.assess import bring
from hubq.stages.plan.adapted_run import belongs_to
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.reproduce.comparison import compare_files, compare_models
from hubq.stages.reproduce.released import WINDOWS, Given, Released, released
from hubq.stages.reproduce.surroundings import (
    as_made,
    keep_requirements,
    refuse_others,
    remarks,
)

CONFIG = "config.json"
SCALING = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")  # of adapters


class Asked(NamedTuple):
    """What is wanted of a reproduction."""

    given: Given = Given()
    strict: bool = False  # refuse other versions of libraries
    evaluate: bool = False  # measure what was made again beside the release


def reproduce(
    reference: str, run: Path, client: Client, asked: Asked, progress: Progress = SILENT
) -> Reproduction:
    """Make org/name or org/name@revision again in a run folder, compare, save reproduction.json.

    A killed run goes on where it stopped. Raises UserError for a repo that can't be made again,
    for files of its maker that are not given, and for a run folder that holds something else.
    """
    began = perf_counter()
    _refuse_measured(run)
    release = released(reference, asked.given, client)
    if asked.strict:
        refuse_others(release.report)
    if asked.evaluate:
        _refuse_unmeasurable(release)
    pinned = replace(client, pinned_data=release.data)
    with as_made(release.report):
        said = (*release.remarks, *remarks(release.report, run))
        planned = _planned(release, run, pinned)
        keep_requirements(release.report, run)
        made = _made_again(release, planned, run, pinned, progress)
    found = _compared(release, planned, made, client, progress)
    closeness = _closeness(release, run, client, progress) if asked.evaluate else None
    reproduction = found.model_copy(
        update={
            "quantized_apart": _quantized_apart(release.report, run),
            "remarks": (*said, *_other_source(release, planned), *_otherwise(release, run)),
            "divergence": closeness and closeness.result,
            "text": closeness and f"{closeness.dataset}, {closeness.version}",
            "seconds": round(perf_counter() - began, 2),
        }
    )
    reproduction.save(run / REPRODUCTION)
    return reproduction


def _refuse_measured(run: Path) -> None:
    """Refuse a run folder with measurements, which a recipe without any would remove."""
    if (run / REPORT).is_file():
        raise UserError(
            f"{run} is a run that was measured: what is made again needs a folder of its own. "
            "Name another with --run, or leave --run out"
        )


def _planned(release: Released, run: Path, client: Client) -> Plan:
    """Plan, or take the run folder's plan; let it compute in the dtypes of the release."""
    planned = plan(release.recipe, run, client)
    if release.recipe.model.hub is None and release.recipe.model.wheel is None:
        _require_base(release, planned)
    if any((run / name).exists() for name in (BLOCKS, CHECKPOINT)):
        return planned
    dtype = release.report.checkpoint.compute_dtype or release.report.plan.compute_dtype
    changes: dict[str, object] = {}
    if planned.compute_dtype is not None:  # what says nothing is of when it was always bfloat16
        changes["compute_dtype"] = dtype or "bfloat16"
    if planned.adaptation is not None and isinstance(release.report, AdaptedReport):
        own = {"compute_dtype": release.report.adaptation.compute_dtype}
        changes["adaptation"] = planned.adaptation.model_copy(update=own)
    planned = planned.model_copy(update=changes)
    planned.save(run / PLAN)
    return planned


def _require_base(release: Released, planned: Plan) -> None:
    """Refuse a base of the user's that is not the one that the release was made from."""
    there, model = release.report.plan.source, release.recipe.model
    if planned.source != there:
        raise UserError(
            f"{model.folder or model.gguf} ({planned.source}) is not the base that {release.repo} "
            f"was made from: that is {there}"
        )


def _otherwise(release: Released, run: Path) -> tuple[str, ...]:
    """Say where a run folder was begun on another number of threads than the release."""
    there, here = release.report.checkpoint.lock, Checkpoint.load(run / CHECKPOINT).lock
    if there is None or here is None or there.threads == here.threads:
        return ()
    return (f"quantized on {here.threads} threads here, on {there.threads} there",)


def _other_source(release: Released, planned: Plan) -> tuple[str, ...]:
    """Say where the recipe's model is not the one that the release was made from."""
    there = release.report.plan.source
    if planned.source == there:
        return ()
    return (f"the recipe's model is {planned.source}, and the release was made from {there}",)


def _made_again(
    release: Released, planned: Plan, run: Path, client: Client, progress: Progress
) -> dict[str, LocalFile]:
    """Quantize, and adapt where the release is adapted; return the files by path in the repo."""
    if (run / CHECKPOINT).is_file():
        checkpoint = Checkpoint.load(run / CHECKPOINT)
    else:
        checkpoint = quantize(planned, run, client, progress)
    if not isinstance(release.report, AdaptedReport):
        return {path: LocalFile(run / MODEL / path) for path in checkpoint.files}
    if (run / ADAPTED / ADAPTATION).is_file():
        adaptation = Adaptation.load(run / ADAPTED / ADAPTATION)
    else:
        adaptation = adapt(planned, checkpoint, run, client, progress)
    folder = run / ADAPTED / MODEL
    if adaptation.makes == "checkpoint":
        return {path: LocalFile(folder / path) for path in adaptation.files}
    return _of_an_adapter(release.report, checkpoint, folder / ADAPTER, run)


def _of_an_adapter(
    report: AdaptedReport, checkpoint: Checkpoint, folder: Path, run: Path
) -> dict[str, LocalFile]:
    """Return an adapter's files as its repo holds them: it names its base, which was published."""
    base, _, revision = (belongs_to(report.plan) or "").partition("@")
    config = run / ADAPTED / ADAPTER_CONFIG
    said = (folder / ADAPTER_CONFIG).read_bytes()
    write_atomically(config, renamed(said, base, revision or None))
    licenses = {path: run / MODEL / path for path in checkpoint.files if is_license_file(path)}
    places = {WEIGHTS: folder / WEIGHTS, ADAPTER_CONFIG: config, **licenses}
    return {path: LocalFile(place) for path, place in places.items()}


def _quantized_apart(report: Report, run: Path) -> tuple[str, ...]:
    """Name the files of the quantized model, below what was adapted, that are not the release's."""
    if not isinstance(report, AdaptedReport):
        return ()
    there, here = report.checkpoint.files, Checkpoint.load(run / CHECKPOINT).files
    return tuple(path for path in sorted({*there, *here}) if there.get(path) != here.get(path))


def _compared(
    release: Released,
    planned: Plan,
    made: Mapping[str, LocalFile],
    client: Client,
    progress: Progress,
) -> Reproduction:
    """Compare files by the Hub's hashes, and tensors where these differ."""
    wanted = sorted({*release.report.files, *made})
    apart = [path for path in wanted if not _is_same(path, made, release)]
    plain = Reproduction(
        repo=release.repo,
        commit=release.commit,
        verdict="same codes" if apart else "same bytes",
        files=len(wanted),
        files_apart=tuple(apart),
        modules=0,
        codes_apart=0.0,
        seconds=0.0,
    )
    if not any(map(_holds_weights, apart)):
        return plain
    folder = _brought(release, client, progress)
    if WEIGHTS in made:
        found = compare_files(made[WEIGHTS].path, folder / WEIGHTS)
        if _scaling(made[ADAPTER_CONFIG].path) != _scaling(folder / ADAPTER_CONFIG):
            other = Apart(name=ADAPTER_CONFIG, codes=0, codes_apart=None)
            found = found._replace(apart=(other, *found.apart))
    else:
        ours = made[CONFIG].path.parent
        plans = (planned, release.report.plan)
        shapes = {m.name: m.shape for each in plans for m in each.modules if m.quantized}
        found = compare_models(ours, folder, shapes, progress)
    verdict: Verdict = "apart" if found.apart else "same codes"
    return plain.model_copy(
        update={
            "verdict": verdict,
            "modules": found.modules,
            "tensors_apart": found.apart,
            "codes_apart": found.codes_apart,
        }
    )


def _scaling(config: Path) -> list[object]:
    """Return what an adapter's matrices are multiplied by, as its config says."""
    said = read_object(config)
    return [said.get(key) for key in SCALING]


def _is_same(path: str, made: Mapping[str, LocalFile], release: Released) -> bool:
    return path in made and path in release.files and made[path].equals(release.files[path])


def _holds_weights(path: str) -> bool:
    """Tell whether weights, or what they mean, may hang on a file."""
    return path.endswith(".safetensors") or path in (CONFIG, INDEX, ADAPTER_CONFIG)


def _brought(release: Released, client: Client, progress: Progress) -> Path:
    """Bring a release's weights into huggingface_hub's cache, checked; return their folder."""
    files = {path: each for path, each in release.files.items() if _holds_weights(path)}
    needed = ADAPTER_CONFIG if WEIGHTS in release.report.files else CONFIG
    if needed not in files:
        raise UserError(
            f"{release.repo} at {release.commit[:12]} has no {needed}: it was changed after hubq "
            "published it, so that it can't be compared"
        )
    with client.translate_errors(f"downloading {release.repo}"), without_bars():
        snapshot = Snapshot(release.repo, release.commit, None, client)
        places = download(snapshot, files, progress)
        check(snapshot, files, places, progress)
    return places[needed].parent


def _refuse_unmeasurable(release: Released) -> None:
    if release.text is None:
        raise UserError(
            f"--evaluate: {release.repo} was measured on no text, or on a file of its maker's; "
            "leave --evaluate out"
        )


def _closeness(release: Released, run: Path, client: Client, progress: Progress) -> Fidelity | None:
    """Measure what was made again beside the release, on the report's first text."""
    assert release.text is not None
    section, data = release.text
    wanted = EvaluateSection(
        perplexity=(section,), fidelity=FidelitySection(windows=WINDOWS), efficiency=None
    )
    theirs = bring(f"{release.repo}@{release.commit}", client, progress)().folder
    ours = run / ADAPTED / MODEL if release.is_adapted else run / MODEL
    pair = ModelPair(ours, theirs, release.report.plan.dtype, "reproduced")
    return measured(pair, wanted, replace(client, pinned_data=data), progress).fidelity
