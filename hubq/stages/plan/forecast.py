"""How long quantizing and measuring will take on this machine, or on another, part by part.

What is counted follows the walk and the measurements: products, attention, XᵀX, numbers that are
gone through once, and files, each over its rate (`hubq/machine/rates.py`). What a method does to a
layer is known by doing it to some rows (`solving.py`). Nothing is taken to be remembered of earlier
runs, and what a network takes is not among it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hubq.formats import format_named, scale_dtype
from hubq.machine.device import best_device
from hubq.machine.published import Published, rates_from
from hubq.machine.rates import WINDOW, Rates, rates_of
from hubq.records.plan import Plan, PlannedModule
from hubq.records.recipe_evaluate import EvaluateSection, PerplexitySection, lengths
from hubq.sources.architecture import FAMILIES
from hubq.sources.task_sizes import tokens_of
from hubq.sources.texts.hub import most_tokens
from hubq.stages.plan.adapting_time import AdaptedRun
from hubq.stages.plan.memory import parameters_of
from hubq.stages.plan.running import Run, Shape
from hubq.stages.plan.solving import Shapes, reckoned_seconds_a_block, seconds_a_block
from hubq.stages.recipe.recipe import Recipe

Parts = Mapping[str, float]  # seconds
Solve = Callable[[Sequence[Shapes]], float]  # the seconds of a block's groups

START = 10.0  # seconds until a process has imported torch, transformers and what measures
OPENING = 2.0  # seconds until a model's files have been looked through
TOKENIZING = 9.0  # seconds of cutting a calibration text of 10 MB to tokens
ASKING = 1.0  # seconds in which a task's items are read and laid out
TEXT = 300_000  # tokens of a text of unknown length: of WikiText-2's test split there are as many
FLOOR = 5  # windows that the base reads in float32 too
LOWER = 0.7  # of XᵀX is computed, in panels: its lower triangle
TRAINING = 6  # forward passes that an epoch of training is worth, the way back at half the rate
# How much longer than its base a result runs that is unpacked or whose inputs are rounded as it
# goes: in the reports of model_cards.
ROUNDED_INPUTS = 3.5
UNPACKED_AS_IT_RUNS = {"bitsandbytes": 5.0}


@dataclass(frozen=True)
class Forecast:
    """Seconds by stage and part, on a device."""

    device: str
    stages: Mapping[str, Parts]

    @property
    def seconds(self) -> float:
        """All of them."""
        return sum(sum(parts.values()) for parts in self.stages.values())


def shape_of(plan: Plan) -> Shape:
    """Return the shape of a plan's model."""
    family = FAMILIES[plan.architecture]
    modules: dict[str, PlannedModule] = {each.name: each for each in plan.modules}
    first = f"{family.blocks}.0"
    groups = [
        [modules[f"{first}.{linear}"].shape for linear in group.linears] for group in family.groups
    ]
    last = f".{family.groups[0].linears[0]}"
    vocabulary, hidden = modules[family.embeddings].shape
    return Shape(sum(name.endswith(last) for name in modules), groups, hidden, vocabulary)


def forecast_here(plan: Plan, *, base_known: bool = False) -> Forecast:
    """Say how long a plan takes on this machine, whose rates are timed if they are not known.

    Where the base is known, its measurements are remembered of another recipe.
    """
    recipe, device = Recipe.model_validate(plan.recipe), best_device()
    rates = rates_of(device, shape_of(plan).widths)
    stored = scale_dtype(plan.dtype, format_named(recipe.format))
    return forecast(
        plan,
        rates,
        lambda groups: seconds_a_block(recipe.method, groups, stored, device),
        device.type,
        base_known=base_known,
    )


def forecast_for(plan: Plan, gpu: Published, *, base_known: bool = False) -> Forecast:
    """Say about how long it takes on a GPU by its published figures."""
    method, rates = Recipe.model_validate(plan.recipe).method, rates_from(gpu)
    return forecast(
        plan,
        rates,
        lambda groups: reckoned_seconds_a_block(method, groups, rates),
        "cuda",
        base_known=base_known,
    )


def forecast(
    plan: Plan, rates: Rates, solve: Solve, kind: str, *, base_known: bool = False
) -> Forecast:
    """Estimate a plan's stages; `kind` is cpu or cuda, and `solve` tells of a block's groups."""
    recipe, shape = Recipe.model_validate(plan.recipe), shape_of(plan)
    run = Run(shape, rates, plan.compute_dtype or plan.dtype)
    dtype = recipe.evaluate.dtype or plan.compute_dtype or plan.dtype
    sides = 1 + (1 if recipe.adapt is None else 2) * _slowness(recipe)
    measured = _measuring(recipe.evaluate, Run(shape, rates, dtype), kind, sides)
    if base_known:  # only what is timed is done again
        known = _measuring(recipe.evaluate, Run(shape, rates, dtype), kind, sides - 1)
        measured |= {part: known[part] for part in ("perplexity", "tasks") if part in known}
    return Forecast(
        device=rates.device,
        stages={
            "quantize": _quantizing(plan, recipe, run, solve),
            **_adapting(plan, recipe, run),
            "evaluate": {part: each for part, each in measured.items() if each},
        },
    )


def _quantizing(plan: Plan, recipe: Recipe, run: Run, solve: Solve) -> Parts:
    """Return the seconds of quantizing."""
    shape, rates, method = run.shape, run.rates, recipe.method
    parts = {
        "start": START,
        "reading and writing": OPENING + (plan.base_bytes + 2 * plan.bytes) / rates.files,
    }
    parts["solving"] = shape.blocks * solve(shape.groups)
    if recipe.calibration is not None and recipe.reads_text:
        parts["tokenizing"] = TOKENIZING
        tokens = recipe.calibration.tokens
        forward = run.blocks(tokens, recipe.calibration.length)
        parts["forward"] = forward
        parts["statistics"] = shape.blocks * sum(
            _statistics(tokens, columns, rates, wants_gram="gram" in method.needed)
            for columns in shape.inputs
        )
        if recipe.calibration.sees:
            parts["pictures"] = (
                2 * recipe.calibration.seen * parameters_of(plan.vision) / run.products
            )
        if method.tunes:
            parts["forward"] = 3 * forward
            parts["teacher"] = forward + run.head(tokens)
            parts["tuning"] = TRAINING * method.tuning_epochs * forward
    return parts


def _adapting(plan: Plan, recipe: Recipe, run: Run) -> Mapping[str, Parts]:
    """Return the seconds of adapting; nothing for a recipe that doesn't."""
    if recipe.adapt is None or plan.adaptation is None:
        return {}
    run = Run(run.shape, run.rates, plan.adaptation.compute_dtype)
    adapted = AdaptedRun(run, recipe.adapt, plan.adaptation.parameters)
    return {"adapt": {"load": OPENING, **adapted.parts(recipe.calibration)}}


def _statistics(tokens: int, columns: int, rates: Rates, *, wants_gram: bool) -> float:
    """Return the seconds in which the inputs of one group are summed up."""
    gram = LOWER * 2 * tokens * columns**2 / rates.gram if wants_gram else 0.0
    return gram + 8 * tokens * columns / rates.passed


def _slowness(recipe: Recipe) -> float:
    """Return how much longer the result takes to run than its base."""
    if recipe.method.activation_bits is not None:
        return ROUNDED_INPUTS
    return UNPACKED_AS_IT_RUNS.get(recipe.format, 1.0)


def _measuring(section: EvaluateSection, run: Run, kind: str, sides: float) -> dict[str, float]:
    """Return the seconds of measuring base and result, who take as long as so many bases."""
    parts = {"start": 3 * START}  # this process, and one for each side
    parts["perplexity"] = sides * sum(_perplexity(each, run) for each in section.perplexity)
    if section.fidelity and section.perplexity:
        first = section.perplexity[0]
        tokens = min(section.fidelity.windows * first.length, _tokens(first))
        exact = Run(run.shape, run.rates, "float32")
        floor = FLOOR * first.length
        parts["divergence"] = 2 * run.head(tokens) + exact.blocks(floor, first.length)
        parts["divergence"] += run.head(floor) + exact.head(floor)
    for task in section.tasks:
        read, written = tokens_of(task.name, section.limit)
        answering = run.blocks(read, WINDOW) + run.step() * written
        parts["tasks"] = parts.get("tasks", 0.0) + 2 * ASKING + sides * answering
    if section.efficiency:
        prompt, output = lengths(section.efficiency, kind)
        turn = run.blocks(prompt * section.efficiency.batch, prompt) + output * run.step()
        turns = 1 + section.efficiency.repetitions
        parts["efficiency"] = 2 * START + sides * turns * turn
    return parts


def _perplexity(section: PerplexitySection, run: Run) -> float:
    """Return the seconds in which one model reads a text."""
    tokens = _tokens(section)
    return run.blocks(tokens, section.length) + run.head(tokens)


def _tokens(section: PerplexitySection) -> int:
    """Return how many tokens of a text are read, as far as the recipe tells."""
    if section.windows is not None:
        return section.windows * section.length
    return most_tokens(section.dataset) or TEXT
