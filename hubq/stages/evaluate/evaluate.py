"""The stage that measures: the exported folder and its base, each loaded in a fresh process."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.device import DTYPES
from hubq.machine.progress import SILENT, Progress
from hubq.records.adaptation import Adaptation
from hubq.records.adapted_report import AdaptedReport
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Measured, Report
from hubq.records.run_folder import ADAPTED, ADAPTER, MODEL, PLAN, REPORT
from hubq.stages.evaluate.against_base import ModelPair, measured, named_tasks
from hubq.stages.evaluate.fit import refuse_writing, why_not_whole
from hubq.stages.evaluate.measure import file_digests, machine
from hubq.stages.plan.adapted_run import plan_of_adapted


class Made(NamedTuple):
    """The stage that wrote a folder, and what writes it anew."""

    stage: str
    again: str


QUANTIZE = Made("quantize", "run quantize again with --fresh")


def evaluate(
    plan: Plan, checkpoint: Checkpoint, run: Path, client: Client, progress: Progress = SILENT
) -> Report:
    """Measure run/model beside its base, save run/report.json.

    What was measured before of the same files is not repeated.
    """
    from hubq.sources.find import fetch_planned

    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    model = ModelSection.model_validate(plan.recipe["model"])
    _refuse_changed(run / MODEL, checkpoint.files, QUANTIZE)
    models = ModelPair(
        result=run / MODEL,
        base=fetch_planned(model, plan.source, client, progress, plan.part),
        dtype=plan.dtype,
    )
    found = measured(models, section, client, progress)
    report = Report(plan=plan, checkpoint=checkpoint, **dict(found))
    report.save(run / REPORT)
    return report


def evaluate_adapted(
    report: Report, adaptation: Adaptation, run: Path, client: Client, progress: Progress = SILENT
) -> AdaptedReport:
    """Measure run/adapted/model beside the base and beside run/model, save its report.json.

    `report` is that of run/model; what it and this one measured of the same files is not repeated.
    """
    from hubq.sources.find import fetch_planned

    plan, folder = report.plan, run / ADAPTED / MODEL
    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    made = Made("adapt", f"delete {run / ADAPTED} and adapt again")
    _refuse_vllm(plan)
    _refuse_changed(folder, _listed(report.checkpoint, adaptation), made)
    model = ModelSection.model_validate(plan.recipe["model"])
    base = fetch_planned(model, plan.source, client, progress, plan.part)
    beside_base = ModelPair(folder, base, plan.dtype, label="adapted")
    found = measured(beside_base, section, client, progress)
    alone = section.model_copy(update={"fidelity": None, "efficiency": None})
    gained = measured(beside_base._replace(base=run / MODEL), alone, client, progress)
    own = plan_of_adapted(plan)
    adapted = AdaptedReport(
        plan=own,
        checkpoint=report.checkpoint,
        adaptation=adaptation,
        unadapted=Measured(**{name: getattr(report, name) for name in Measured.model_fields}),
        gained=gained,
        **dict(found),
    )
    own.save(run / ADAPTED / PLAN)
    adapted.save(run / ADAPTED / REPORT)
    return adapted


def _listed(checkpoint: Checkpoint, adaptation: Adaptation) -> Mapping[str, str]:
    """Return what run/adapted/model holds: a whole model, or an adapter in that of the run."""
    if adaptation.makes == "checkpoint":
        return adaptation.files
    inside = {f"{ADAPTER}/{name}": sha256 for name, sha256 in adaptation.files.items()}
    return {**checkpoint.files, **inside}


def why_by_blocks(plan: Plan) -> str | None:
    """Say why a plan's models will be evaluated block by block on this machine; None: whole.

    Models that see are always whole.
    """
    if plan.vision is not None and plan.part == "all":
        return None
    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    where = machine(plan.dtype, section.dtype)
    return why_not_whole(plan.parameters * DTYPES[where.dtype].width, where.device)


def refuse_unmeasurable(plan: Plan) -> None:
    """Raise UserError where a plan's evaluation would be refused for the memory that there is.

    To be asked before hours of quantizing. So is what vLLM would be asked for.
    """
    _refuse_vllm(plan)
    if reason := why_by_blocks(plan):
        section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
        refuse_writing(named_tasks(section), section, reason)


def _refuse_vllm(plan: Plan) -> None:
    """Raise UserError where vLLM would have to load an adapter."""
    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    adapter = plan.adaptation is not None and plan.adaptation.makes == "adapter"
    if adapter and section.engine == "vllm":
        raise UserError(
            "evaluate.engine: vllm measures whole models, and an adapter is loaded by hubq alone: "
            "use engine: transformers, or adapt.merge: true"
        )


def _refuse_changed(folder: Path, listed: Mapping[str, str], made: Made) -> None:
    """Raise UserError unless a folder holds just what a stage wrote: files by their sha256."""
    found = file_digests(folder)
    if added := sorted(found.keys() - listed.keys()):
        raise UserError(
            f"{folder / added[0]} was not written by {made.stage}, and might change how the model "
            "loads; nothing was measured. Move it elsewhere, then run again"
        )
    for name, digest in found.items():
        if listed.get(name) != digest:
            raise UserError(
                f"{folder / name} has changed since {made.stage} wrote it (its sha256 differs); "
                f"nothing was measured: {made.again}"
            )
    gone = [name for name in sorted(listed) if not (folder / name).is_file()]
    if gone:
        raise UserError(f"{folder / gone[0]} is missing; {made.again}")
