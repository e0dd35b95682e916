"""The stage that measures: the exported folder and its base, each loaded in a fresh process."""

from pathlib import Path

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.device import DTYPES
from hubq.machine.progress import SILENT, Progress
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Report
from hubq.records.run_folder import REPORT
from hubq.stages.evaluate.against_base import ModelPair, measured, named_tasks
from hubq.stages.evaluate.fit import refuse_writing, why_not_whole
from hubq.stages.evaluate.measure import file_digests, machine


def evaluate(
    plan: Plan, checkpoint: Checkpoint, run: Path, client: Client, progress: Progress = SILENT
) -> Report:
    """Measure run/model beside its base, save run/report.json.

    What was measured before of the same files is not repeated.
    """
    from hubq.sources.find import fetch_planned

    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    model = ModelSection.model_validate(plan.recipe["model"])
    _refuse_changed(run / "model", checkpoint)
    models = ModelPair(
        result=run / "model",
        base=fetch_planned(model, plan.source, client, progress),
        dtype=plan.dtype,
    )
    found = measured(models, section, client, progress)
    report = Report(plan=plan, checkpoint=checkpoint, **dict(found))
    report.save(run / REPORT)
    return report


def why_by_blocks(plan: Plan) -> str | None:
    """Say why a plan's models will be evaluated block by block on this machine; None: whole."""
    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    where = machine(plan.dtype, section.dtype)
    return why_not_whole(plan.parameters * DTYPES[where.dtype].width, where.device)


def refuse_unmeasurable(plan: Plan) -> None:
    """Raise UserError where a plan's evaluation would be refused for the memory that there is.

    To be asked before hours of quantizing.
    """
    if reason := why_by_blocks(plan):
        section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
        refuse_writing(named_tasks(section), section, reason)


def _refuse_changed(folder: Path, checkpoint: Checkpoint) -> None:
    """Raise UserError unless the folder holds just what `quantize` wrote."""
    found = file_digests(folder)
    if added := sorted(found.keys() - checkpoint.files.keys()):
        raise UserError(
            f"{folder / added[0]} was not written by quantize, and might change how the model "
            "loads; nothing was measured. Move it elsewhere, then run again"
        )
    for name, digest in found.items():
        if checkpoint.files.get(name) != digest:
            raise UserError(
                f"{folder / name} has changed since quantize wrote it (its sha256 differs); "
                "nothing was measured. Quantize again with --fresh"
            )
    gone = [name for name in sorted(checkpoint.files) if not (folder / name).is_file()]
    if gone:
        raise UserError(f"{folder / gone[0]} is missing; run quantize again with --fresh")
