"""All pinned, all costs estimated: what a recipe will do, computed without reading a weight."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy, chain, status_of
from hubq.errors import UserError
from hubq.machine.device import best_device, compute_dtype
from hubq.machine.files import require_space
from hubq.methods.adapters import TrainedAdapter
from hubq.records.plan import Plan, PlannedVision, StayingPart
from hubq.records.recipe_inputs import ModelSection
from hubq.records.run_folder import PLAN, clear, require_run
from hubq.sources.instructions.conversations import require_conversations
from hubq.sources.instructions.pairs import Described, described
from hubq.sources.instructions.shown_pictures import require_pictures
from hubq.sources.source import Source, dtype_of
from hubq.sources.task_names import require_known
from hubq.sources.texts.find import require
from hubq.sources.texts.hub import commits_of
from hubq.stages.plan.conditions import (
    refuse_unmeasured,
    refuse_unreachable,
    repo_name,
    require_engine,
    require_eyes,
    require_permission,
    require_seeing,
)
from hubq.stages.plan.costs import seconds
from hubq.stages.plan.differences import understood
from hubq.stages.plan.memory import Walked, parameters_of
from hubq.stages.plan.model_check import require_consistent
from hubq.stages.plan.readable import require_readable
from hubq.stages.plan.replanning import adopted, kept

if TYPE_CHECKING:
    from hubq.stages.recipe.recipe import Recipe

COPIES = 2  # of the result on disk while its parts are joined


def plan(recipe: "Recipe", run: Path, client: Client) -> Plan:
    """Pin and count everything, save run/plan.json; raise UserError for what can't work.

    A run folder's plan stays as it is, what it pinned too; a recipe that names, publishes or
    measures the same weights otherwise is adopted by it.
    """
    require_run(run)
    if not (run / PLAN).is_file():
        return _saved(_looked_up(recipe, recipe.model, client), run)
    saved = Plan.load(run / PLAN)
    wanted = recipe.model_dump(mode="json")
    if understood(saved.recipe) == wanted and _is_pinned(recipe):
        dtype = _computed_in(recipe, saved.dtype)
        return kept(saved, saved.model_copy(update={"compute_dtype": dtype}), run)
    model = recipe.model
    if model.hub is not None and model.hub == saved.recipe["model"].get("hub"):
        model = model.model_copy(update={"hub": saved.source})  # a branch may have moved since
    pinned = replace(client, pinned_data=saved.data)
    return adopted(saved, _looked_up(recipe, model, pinned), run, client)


def plan_afresh(recipe: "Recipe", run: Path, client: Client) -> Plan:
    """Plan anew; only once that has worked, throw away what the run folder held."""
    require_run(run)
    planned = _looked_up(recipe, recipe.model, client)
    clear(run)
    return _saved(planned, run)


def _saved(planned: Plan, run: Path) -> Plan:
    require_space(run, COPIES * planned.bytes, "the quantized model")
    planned.save(run / PLAN)
    return planned


class LookedUp:
    """What several recipes name alike, so that it is looked up once."""

    def __init__(self) -> None:
        self.sources: dict[tuple[str, str], Source] = {}
        self.data: set[str] = set()

    def source(
        self, model: ModelSection, client: Client, part: Literal["all", "language"]
    ) -> Source:
        """Find a model, or take it as it was found; raise UserError where it contradicts itself."""
        from hubq.sources.find import find

        key = (model.model_dump_json(), part)
        if key not in self.sources:
            found = find(model, client, part)
            require_consistent(found)
            self.sources[key] = found
        return self.sources[key]

    def require_data(self, recipe: "Recipe", client: Client) -> None:
        """Refuse data that isn't there, unless that was looked for."""
        calibration = recipe.calibration.model_dump_json() if recipe.calibration else ""
        key = calibration + recipe.evaluate.model_dump_json()
        if key not in self.data:
            _refuse_missing_data(recipe, client)
            self.data.add(key)


def look_up(recipe: "Recipe", client: Client, known: LookedUp) -> Plan:
    """Plan a recipe without a run folder; what is known is not looked up again.

    Raises UserError for what can't work.
    """
    return _looked_up(recipe, recipe.model, client, known)


def _looked_up(
    recipe: "Recipe", model: ModelSection, client: Client, known: LookedUp | None = None
) -> Plan:
    """Look up all that the recipe names, its model as pinned, and count."""
    known = known or LookedUp()
    refuse_unmeasured(recipe.evaluate)
    known.require_data(recipe, client)
    pairs = _looked_at(recipe, client)
    source = known.source(model, client, recipe.publish.part)
    sees = source.whole is not None and not source.is_part
    require_seeing(recipe.calibration, sees=sees, model=source.identity)
    planned = estimate(recipe, _described(source, client), pairs)
    planned = planned.model_copy(update={"data": _commits(recipe, pairs, client)})
    require_eyes(recipe.evaluate, sees=sees, model=planned.source)
    require_readable(recipe, source, client)
    require_engine(recipe)
    refuse_unreachable(planned)
    return planned


def _described(source: Source, client: Client) -> Source:
    """Ask the Hub about the base of weights that lie elsewhere: its gate binds their copies too."""
    from hubq.sources.hub import card_on_hub

    if source.base_model is None or source.section.hub is not None:
        return source
    base = source.base_model.partition("@")[0]
    card = card_on_hub(base, _once(client), source.license)
    if card is None:
        return source
    return replace(source, card=card, license=source.license or card.license)


def estimate(recipe: "Recipe", source: Source, pairs: Described | None = None) -> Plan:
    """Count what a recipe makes of a model; raise UserError for what can't work.

    `pairs` are what its adapter learns from, where that could be looked at.
    """
    from hubq.stages.plan.adapting import planned_adaptation

    require_permission(recipe.publish, source)
    planned = _quantized(recipe, source)
    if recipe.adapt is None:
        return planned
    adaptation = planned_adaptation(recipe, planned, source, pairs)
    return planned.model_copy(update={"adaptation": adaptation})


def _quantized(recipe: "Recipe", source: Source) -> Plan:
    """Count what the recipe's method makes of a model."""
    from hubq.stages.plan.selection import select

    selection = select(recipe, source)
    quantized = {each.name: each for each in selection.modules if each.quantized}
    rest = sum(
        info.end - info.begin
        for name, info in source.published.items()
        if name.removesuffix(".weight") not in quantized and name not in selection.dropped
    )
    size = rest + sum(each.bytes for each in quantized.values())
    counted = [
        info.shape for name, info in source.published.items() if name not in selection.dropped
    ]
    parameters = sum(map(prod, counted))
    linear = [each for each in quantized.values() if each.name in selection.linears]
    dtype, device = _computed_in(recipe, dtype_of(source)), best_device()
    vision = _vision(source)
    walked = Walked(recipe, source.config, source.tensors, dtype, eyes=parameters_of(vision))
    place, gpu = walked.place(device), device.type != "cpu"
    memory = walked.memory(place, gpu=gpu)
    return Plan(
        recipe=recipe.model_dump(mode="json"),
        source=source.identity,
        base_model=source.base_model,
        license=source.license,
        architecture=source.config["architectures"][0],
        dtype=dtype_of(source),
        modules=selection.modules,
        parameters=parameters,
        base_bytes=sum(info.end - info.begin for info in source.published.values()),
        bytes=size,
        nominal_bits=recipe.method.nominal_bits,
        needed_bits=selection.needed_bits,
        linear_bits=8 * sum(each.bytes for each in linear) / sum(prod(m.shape) for m in linear),
        model_bits=8 * size / parameters,
        peak_memory=memory.host,
        device_memory=memory.device if gpu else None,
        hidden_states=place if dtype is not None else None,
        seconds=seconds(recipe, source, dtype),
        repo=f"{recipe.publish.org}/{repo_name(recipe, source)}",
        base_card=source.card,
        compute_dtype=dtype,
        remarks=source.remarks,
        vision=vision,
    )


def _vision(source: Source) -> PlannedVision | None:
    """Say what of a model that sees is not of its language part."""
    whole = source.whole
    if whole is None:
        return None
    stays = tuple(
        StayingPart(
            name=name,
            parameters=sum(prod(each.shape) for each in infos),
            bytes=sum(each.end - each.begin for each in infos),
        )
        for name, infos in whole.parts().items()
    )
    return PlannedVision(
        title=whole.family.title, architecture=whole.architecture, part=whole.part, stays=stays
    )


def destination(planned: Plan, client: Client) -> str:
    """Say whether the result can be published, as far as that can be known from here.

    Raises UserError when the Hub answers that the token's owner may not write there.
    """
    if client.sent_token is None:
        return "not checked: no token"
    try:
        return _once(client).may_publish(planned.repo)
    except UserError as error:
        if _is_unanswered(error):
            return f"not checked: {client.url} can't be reached"
        raise


def _is_pinned(recipe: "Recipe") -> bool:
    """Tell whether a plan's source can't have changed: a commit or a wheel's sha256."""
    return recipe.model.hub is not None or recipe.model.wheel is not None


def _refuse_missing_data(recipe: "Recipe", client: Client) -> None:
    """Refuse tasks that nobody has and texts that are not there, before anything is computed."""
    require_known([each.name for each in recipe.evaluate.tasks])
    once = _once(client)
    try:
        if recipe.calibration:
            for part, samples in recipe.calibration.parts:
                if part.sees:
                    require_pictures(part, samples, once)
                elif part.speaks_in:
                    require_conversations(part, samples, once)
                else:
                    require(part, once, purpose="calibration")
        for each in recipe.evaluate.perplexity:
            require(each.dataset, once, purpose="evaluation")
    except UserError as error:
        if not _is_unanswered(error):
            raise


def _commits(recipe: "Recipe", pairs: Described | None, client: Client) -> dict[str, str]:
    """Return the commits of the Hub's data sets that weights depend on, where it answers."""
    found: dict[str, str] = {}
    if pairs is not None and isinstance(recipe.adapt, TrainedAdapter) and recipe.adapt.dataset.hub:
        found[recipe.adapt.dataset.hub] = pairs.version
    try:
        for part, _ in recipe.calibration.parts if recipe.calibration else ():
            found |= commits_of(part, _once(client))
    except UserError as error:
        if not _is_unanswered(error):
            raise
    return dict(sorted(found.items()))


def _looked_at(recipe: "Recipe", client: Client) -> Described | None:
    """Look at the pairs that an adapter learns from; None: there are none, or none can be seen.

    Raises UserError for pairs that are not there.
    """
    if not isinstance(recipe.adapt, TrainedAdapter):
        return None
    try:
        return described(recipe.adapt.dataset, _once(client))
    except UserError as error:
        if not _is_unanswered(error):
            raise
    return None


def _once(client: Client) -> Client:
    """Return a client that asks once: a plan doesn't wait for a network."""
    return replace(client, retries=RetryPolicy(tries=1))


def _is_unanswered(error: UserError) -> bool:
    """Tell whether the Hub could not be asked, so that nothing is known of the answer."""
    return error.__cause__ is not None and not any(map(status_of, chain(error)))


def _computed_in(recipe: "Recipe", stored: str) -> str | None:
    """Return the dtype in which calibration text runs through the model on this machine."""
    dtype = compute_dtype(best_device().type, stored)  # a wrong one is refused in any case
    return dtype if recipe.reads_text else None
