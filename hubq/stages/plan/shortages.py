"""What a plan needs that a machine lacks: memory of the GPU and of the host, room on the disk.

States for resuming lie on the disk twice for a moment, since the older go when the newer are there.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hubq.machine.device import DTYPES, best_device
from hubq.machine.files import gigabytes
from hubq.machine.memory import SPARE, VARIABLE, Place, free_memory
from hubq.machine.meters import available
from hubq.machine.published import Published
from hubq.records.plan import Plan, PlannedAdaptation
from hubq.sources.architecture import FAMILIES
from hubq.stages.plan.adapting_memory import Adapting
from hubq.stages.plan.memory import walk_of
from hubq.stages.recipe.recipe import Recipe

STATE = 12  # bytes of a parameter: itself and AdamW's two averages, in float32


class Free(NamedTuple):
    """What a machine has free, in bytes; None where that isn't known."""

    device: int | None
    host: int | None
    disk: int | None


def free_here(run: Path) -> Free:
    """Return what this machine has free; the disk is that of a run folder, made or not."""
    standing = next(each for each in [run, *run.absolute().parents] if each.is_dir())
    device = free_memory(best_device())
    return Free(device, available("cpu"), shutil.disk_usage(standing).free)


def on_gpu(plan: Plan, gpu: Published) -> Plan:
    """Return a plan with the memory that it needs on a machine with such a GPU."""
    flows = plan.compute_dtype is not None
    dtype = plan.dtype if flows else None  # a GPU runs models as they are stored
    walked = walk_of(plan, dtype)
    place: Place = "device"
    if walked.memory(place, gpu=True).device > gpu.memory:
        place = "host"
    device, host = walked.memory(place, gpu=True)
    found = {"device_memory": device, "peak_memory": host, "adaptation": _adapting_on_gpu(plan)}
    return plan.model_copy(update={**found, "hidden_states": place if flows else None})


def _adapting_on_gpu(plan: Plan) -> PlannedAdaptation | None:
    """Return what adapting takes on a machine with a GPU."""
    if plan.adaptation is None:
        return None
    recipe = Recipe.model_validate(plan.recipe)
    device, host = Adapting(recipe, plan, plan.dtype).memory(gpu=True)
    found = {"device_memory": device, "peak_memory": host, "compute_dtype": plan.dtype}
    return plan.adaptation.model_copy(update=found)


def by_blocks_on(plan: Plan, gpu: Published) -> str | None:
    """Say why a plan's models would be measured block by block beside such a GPU; None: whole."""
    needed = held_whole(plan)
    if needed <= gpu.memory:
        return None
    return f"the base needs {gigabytes(needed)}, and {gpu.title} has {gigabytes(gpu.memory)}"


def held_whole(plan: Plan) -> int:
    """Return about the bytes of a plan's base, or of its result unpacked, as it runs whole."""
    return int(SPARE * plan.parameters * DTYPES[plan.dtype].width)


def shortages(plan: Plan, free: Free) -> list[str]:
    """Say what doesn't fit, a sentence each with what to change; none where all fits."""
    return list(_shortages(plan, free))


def disk_needed(plan: Plan) -> int:
    """Return the bytes that a run folder takes at most: the result, its parts, and states.

    What is adapted lies beside it, and while it is trained with three numbers a parameter.
    """
    adapted = plan.adaptation
    learning = 0 if adapted is None else adapted.bytes + STATE * adapted.parameters
    return 2 * plan.bytes + states_on_disk(plan) + learning


def states_on_disk(plan: Plan) -> int:
    """Return the bytes of the states that are kept for resuming, twice."""
    recipe = Recipe.model_validate(plan.recipe)
    section = recipe.calibration
    if plan.compute_dtype is None or section is None:
        return 0
    embeddings = FAMILIES[plan.architecture].embeddings
    hidden = next(each.shape[1] for each in plan.modules if each.name == embeddings)
    streams = 2 if recipe.method.tunes else 1
    width = DTYPES[plan.compute_dtype].width
    return 2 * streams * section.samples * section.length * hidden * width


def _shortages(plan: Plan, free: Free) -> Iterator[str]:
    fewer = "lower calibration.samples or calibration.length"
    if _lacks(plan.device_memory, free.device):
        way = f"set {VARIABLE}=host, or {fewer}" if plan.hidden_states == "device" else fewer
        yield _lack("quantizing", plan.device_memory, "GPU memory", free.device, way)
    if _lacks(plan.peak_memory, free.host):
        calm = plan.compute_dtype is None or plan.hidden_states == "disk"
        way = "use a machine with more memory" if calm else f"set {VARIABLE}=disk, or {fewer}"
        yield _lack("quantizing", plan.peak_memory, "memory", free.host, way)
    yield from _adapting(plan.adaptation, free)
    disk = disk_needed(plan)
    if _lacks(disk, free.disk):
        way = "make room there, or name another folder with --run"
        yield _lack("the run folder", disk, "disk", free.disk, way)


def _adapting(planned: PlannedAdaptation | None, free: Free) -> Iterator[str]:
    """Say what of adapting doesn't fit."""
    if planned is None:
        return
    fewer = "lower adapt.at_once, or the lengths of what the model reads and learns"
    if _lacks(planned.device_memory, free.device):
        yield _lack("adapting", planned.device_memory, "GPU memory", free.device, fewer)
    if _lacks(planned.peak_memory, free.host):
        yield _lack("adapting", planned.peak_memory, "memory", free.host, fewer)


def _lacks(needed: int | None, free: int | None) -> bool:
    return needed is not None and free is not None and needed > free


def _lack(what: str, needed: int | None, kind: str, free: int | None, way_out: str) -> str:
    assert needed is not None
    assert free is not None
    return f"{what} needs {gigabytes(needed)} of {kind}, and {gigabytes(free)} are free: {way_out}"
