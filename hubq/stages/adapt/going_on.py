"""Where an adaptation goes on that was stopped: what is kept of a training, or of corrections."""

from pathlib import Path

from hubq.methods.adapters import TrainedAdapter
from hubq.records.plan import Plan
from hubq.records.run_folder import ADAPTED, STEPS
from hubq.stages.adapt.adapting import TRAINING
from hubq.stages.adapt.correcting import CORRECTIONS
from hubq.stages.quantize.resuming import FinishedBlocks, States, blocks_of
from hubq.stages.recipe.recipe import Recipe


def where_it_goes_on(plan: Plan, run: Path) -> str | None:
    """Say after which step or block an adaptation goes on; None where nothing of it is kept."""
    folder = run / ADAPTED / STEPS
    adapter = Recipe.model_validate(plan.recipe).adapt
    done = max((States(each).passed() for each in folder.glob(f"{TRAINING}*")), default=0)
    if done and isinstance(adapter, TrainedAdapter):
        return f"after step {done:,} of {adapter.steps:,}"
    if not (folder / CORRECTIONS).is_dir():
        return None
    corrected = FinishedBlocks(folder / CORRECTIONS, flow=True).count
    return f"after block {corrected} of {blocks_of(plan)}" if corrected else None
