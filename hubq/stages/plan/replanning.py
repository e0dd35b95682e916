"""A recipe that changed since its run began: what no change of words costs is kept.

Names, licenses, who may have the result and what is measured leave the weights alone, and so does
what becomes of them by `adapt` (adapted_run.py). Where only these changed a run keeps its model,
finished or not; its measurements too, unless others are wanted. All is done anew in an order in
which a kill leaves a run that the next call sets right: the plan, by which the change is known, is
replaced last.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.records.run_folder import (
    ADAPTATION,
    ADAPTED,
    BLOCKS,
    CHECKPOINT,
    MODEL,
    PLAN,
    REPORT,
)
from hubq.stages.plan.adapted_run import plan_of_adapted, take_up
from hubq.stages.plan.differences import differences, understood

if TYPE_CHECKING:
    from hubq.records.checkpoint import Checkpoint
    from hubq.records.plan import Plan

BEGUN = (BLOCKS, CHECKPOINT)  # one of them is there once a run has begun to quantize
# The first six depend on the machine, the next on the day that the base's card was read, then come
# words; and what adapting takes follows from the recipe and the machine.
NOT_COMPARED = {
    *("seconds", "peak_memory", "device_memory", "hidden_states", "compute_dtype", "processes"),
    *("base_card", "remarks", "adaptation", "data"),
}
# What says nothing of the weights, in a plan, in its recipe and in that recipe's model. The plan's
# `source` says which weights a Hub id means.
WORDS = ("repo", "base_model", "license")
WORDS_OF_RECIPE = ("name", "adapt", "evaluate", "publish")
WORDS_OF_MODEL = ("hub", "base_model", "license")


def adopted(saved: "Plan", planned: "Plan", run: Path, client: Client) -> "Plan":
    """Return the plan of a run from now on, or refuse a recipe of other weights."""
    there, here = _compared(saved), _compared(planned)
    if there == here:
        return kept(saved, planned, run)
    if _of_weights(there) != _of_weights(here):
        raise UserError(_refusal(there, here, run))
    take_up(planned, run)
    if _measuring(there) != _measuring(here):
        (run / ADAPTED / REPORT).unlink(missing_ok=True)
        (run / REPORT).unlink(missing_ok=True)
    planned = _going_on(saved, planned, run)
    _adopt(_renewed_papers(saved, planned, run, client), planned, run)
    planned.save(run / PLAN)
    return planned


def kept(saved: "Plan", newest: "Plan", run: Path) -> "Plan":
    """Return the saved plan, but of a run that has not begun in the dtype of this machine."""
    going = _going_on(saved, newest, run)
    if going.compute_dtype == saved.compute_dtype:
        return saved
    going.save(run / PLAN)
    return going


def shared_out(plan: "Plan", processes: int, run: Path) -> "Plan":
    """Return the plan of a run that so many processes are to quantize together.

    Its bytes depend on how many they are, so a run that has begun goes on by as many. Raises
    UserError for another number, and for what can't be shared out.
    """
    from hubq.stages.recipe.recipe import Recipe

    if plan.processes == processes or (run / CHECKPOINT).is_file():
        return plan
    if (run / BLOCKS).exists():
        raise UserError(
            f"the run in {run} was begun by {_counted(plan.processes)}, and {_counted(processes)} "
            f"would sum up in another order: go on by {_command(plan.processes)}, replace it with "
            "--fresh, or choose another folder with --run"
        )
    recipe = Recipe.model_validate(plan.recipe)
    if processes > 1 and recipe.method.tunes:
        raise UserError(
            f"{recipe.method.title} trains each block step by step on windows of all the text, "
            "which is not shared out: quantize in one process, without --gpus or torchrun"
        )
    if recipe.calibration is not None and recipe.calibration.samples < processes:
        raise UserError(
            f"calibration.samples ({recipe.calibration.samples}) are fewer than the {processes} "
            "processes, each of which takes some: use fewer processes or more samples"
        )
    changed = plan.model_copy(update={"processes": processes})
    changed.save(run / PLAN)
    return changed


def _counted(processes: int) -> str:
    return "one process" if processes == 1 else f"{processes} processes"


def _command(processes: int) -> str:
    """Name the command by which so many processes quantize."""
    return "`hubq quantize`" + (f" with --gpus {processes} or torchrun" if processes > 1 else "")


def _going_on(saved: "Plan", newest: "Plan", run: Path) -> "Plan":
    """Let a newer plan go on as the run has begun, if it has: in its dtype, by its processes."""
    begun = any((run / name).exists() for name in BEGUN)
    as_begun: dict[str, object] = {
        "compute_dtype": saved.compute_dtype,
        "processes": saved.processes,
    }
    if not saved.data:  # of before: nobody knows which commits it has read
        as_begun["data"] = {}
    return newest.model_copy(update=as_begun) if begun else newest


def _compared(plan: "Plan") -> dict[str, Any]:
    values = plan.model_dump(mode="json", exclude=NOT_COMPARED)
    return {**values, "recipe": understood(plan.recipe)}


def _of_weights(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a plan what has no effect on the weights, even if it is valid no more."""
    recipe = _without(plan["recipe"], *WORDS_OF_RECIPE) | {"name": "", "publish": {"org": "any"}}
    recipe["model"] = _without(recipe["model"], "base_model", "license")
    recipe = dict(understood(recipe))
    recipe["model"] = _without(recipe["model"], *WORDS_OF_MODEL)
    return {**_without(plan, *WORDS), "recipe": recipe}


def _measuring(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a report's numbers depend on; what is required of them is judged later."""
    return _without(plan["recipe"].get("evaluate", {}), "require")


def _without(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _renewed_papers(
    saved: "Plan", planned: "Plan", run: Path, client: Client
) -> "Checkpoint | None":
    """Write what another license asks for into a finished model; return its new checkpoint."""
    from hubq.records.checkpoint import Checkpoint
    from hubq.records.recipe_inputs import ModelSection
    from hubq.sources.auxiliary_files import beside_config
    from hubq.sources.find import fetch_planned
    from hubq.sources.license_terms import governing_license

    before, after = governing_license(saved), governing_license(planned)
    if before == after or not (run / CHECKPOINT).is_file():
        return None
    checkpoint = Checkpoint.load(run / CHECKPOINT)
    model = ModelSection.model_validate(planned.recipe["model"])
    base = fetch_planned(model, planned.source, client, part=planned.part)
    old, new = beside_config(base, before), beside_config(base, after)
    facts = [fact for fact in checkpoint.facts if fact not in {*old.facts, *new.facts}]
    files = _rewritten(run / MODEL, checkpoint.files, old.files, new.files)
    renewed = checkpoint.model_copy(update={"files": files, "facts": (*facts, *new.facts)})
    renewed.save(run / CHECKPOINT)
    if (run / ADAPTED / ADAPTATION).is_file():
        _renew_adapted(run / ADAPTED, old.files, new.files)
    return renewed


def _renew_adapted(own: Path, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> None:
    """Put new papers into an adapted model too, or links to them beside an adapter."""
    from hubq.records.adaptation import Adaptation

    found = Adaptation.load(own / ADAPTATION)
    if found.makes == "checkpoint":
        files = _rewritten(own / MODEL, found.files, old, new)
        found.model_copy(update={"files": files}).save(own / ADAPTATION)
        return
    for name in {*old, *new}:
        (own / MODEL / name).unlink(missing_ok=True)
    for name in new:
        (own / MODEL / name).symlink_to(Path("..", "..", MODEL, name))


def _rewritten(
    folder: Path, listed: Mapping[str, str], old: Mapping[str, bytes], new: Mapping[str, bytes]
) -> dict[str, str]:
    """Put papers in the place of others into a model's folder; return its files by sha256."""
    for name in old.keys() - new.keys():
        (folder / name).unlink(missing_ok=True)
    for name, content in new.items():
        write_atomically(folder / name, content)
    digests = {name: sha256(content).hexdigest() for name, content in new.items()}
    return dict(sorted({**_without(listed, *old), **digests}.items()))


def _adopt(checkpoint: "Checkpoint | None", planned: "Plan", run: Path) -> None:
    """Let a run's measurements, and those of what is adapted in it, be those of the new plan."""
    from hubq.records.adaptation import Adaptation

    if planned.adaptation is not None and (run / ADAPTED / PLAN).is_file():
        own = plan_of_adapted(planned)
        changes: dict[str, object] = {"plan": own}
        if (run / ADAPTED / ADAPTATION).is_file():
            changes |= {"adaptation": Adaptation.load(run / ADAPTED / ADAPTATION)}
        _adopt_report(run / ADAPTED / REPORT, checkpoint, changes)
        own.save(run / ADAPTED / PLAN)
    _adopt_report(run / REPORT, checkpoint, {"plan": planned})


def _adopt_report(
    path: Path, checkpoint: "Checkpoint | None", changes: Mapping[str, object]
) -> None:
    from hubq.records.adapted_report import load_report

    if not path.is_file():
        return
    try:
        report = load_report(path)
    except UserError:  # of another version: measured anew from what is remembered
        path.unlink()
        return
    renewed = {"checkpoint": checkpoint or report.checkpoint, **changes}
    report.model_copy(update=renewed).save(path)


def _refusal(there: Mapping[str, Any], here: Mapping[str, Any], run: Path) -> str:
    """Say in what a run's plan differs, and the ways out."""
    there, here = _of_weights(there), _of_weights(here)
    found = differences(there["recipe"], here["recipe"]) or differences(there, here)
    shown = found[:8] + (["..."] if len(found) > 8 else [])
    return (
        "\n  ".join([f"the run in {run} has a different plan:", *shown])
        + "\nReplace it with --fresh, or choose another folder with --run."
    )
