"""The run folder inside a run's: what `adapt` makes has a plan, a report and a card of its own.

Its plan is that of the run with the name of another repo, saved before `adapt` begins, so that it
says by which settings a training was made that goes on.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.records.run_folder import ADAPTATION, ADAPTED, PLAN, STEPS, clear
from hubq.stages.plan.differences import differences, understood

if TYPE_CHECKING:
    from hubq.records.plan import Plan


def plan_of_adapted(plan: "Plan") -> "Plan":
    """Return the plan of what a run's adapted model becomes."""
    assert plan.adaptation is not None, "the recipe has a section adapt"
    return plan.model_copy(update={"repo": plan.adaptation.repo})


def belongs_to(plan: "Plan") -> str | None:
    """Name the repo that an adapter is loaded on, with @commit where that is known.

    None: the adapted model is published whole.
    """
    assert plan.adaptation is not None, "the recipe has a section adapt"
    if plan.adaptation.makes != "adapter":
        return None
    if plan.recipe["publish"].get("adapter_of") != "base":
        return plan.adaptation.quantized
    assert plan.base_model is not None, "planning refuses a base without a name on the Hub"
    name, commit = plan.base_model.partition("@")[0], plan.source.partition("@")[2]
    return f"{name}@{commit}" if plan.source.startswith(f"{name}@") else name


def begin(plan: "Plan", run: Path) -> None:
    """Give what `adapt` will make of a run its own folder and plan."""
    take_up(plan, run)
    plan_of_adapted(plan).save(run / ADAPTED / PLAN)


def take_up(planned: "Plan", run: Path) -> None:
    """Make sure that a run's adapted model is the one that a plan means.

    One of other settings of which nothing is finished is removed; else UserError says what differs.
    """
    from hubq.records.plan import Plan

    folder = run / ADAPTED
    if planned.adaptation is None or not (folder / PLAN).is_file():
        return
    there, here = _settings(Plan.load(folder / PLAN)), _settings(planned)
    if there == here:
        return
    if (folder / ADAPTATION).is_file() or any((folder / STEPS).glob("*")):
        lines = "\n  ".join(differences(there, here))
        raise UserError(
            f"the adapted model in {folder} was made by other settings:\n  {lines}\n"
            f"Delete {folder} to adapt anew, which keeps the quantized model, or choose another "
            "folder with --run."
        )
    clear(folder)


def _settings(plan: "Plan") -> dict[str, Any]:
    """Return what an adapted model is made by, beside the checkpoint.

    How many examples are taken at once decides the memory, and nothing but rounding.
    """
    adapter = dict(understood(plan.recipe).get("adapt") or {})
    adapter.pop("at_once", None)
    return {"adapt": adapter}
