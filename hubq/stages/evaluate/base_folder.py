"""The base of a model that hubq made, brought here as its report names it."""

from collections.abc import Mapping
from pathlib import Path

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Report
from hubq.records.run_folder import IN_A_REPO, REPORT, record_in
from hubq.sources.find import fetch_planned
from hubq.stages.recipe.text import is_local

OTHERWISE = "name it: org/name, a folder or a GGUF file"


def base_of(folder: Path, client: Client, progress: Progress = SILENT) -> Path:
    """Bring the base of a release or of a run's model; what the cache holds is not fetched again.

    Raises UserError where no report names it, and where it was a file of another machine.
    """
    path = record_in(folder, REPORT)
    if path is None and folder.name == "model":
        path = record_in(folder.absolute().parent, REPORT)
    if path is None:
        raise UserError(
            f"{folder} holds no {REPORT} of hubq, so its base is not known; {OTHERWISE}"
        )
    plan = Report.load(path).plan
    values = plan.recipe.get("model")
    if path == folder / IN_A_REPO / REPORT and is_local(values):
        named = next(iter(_files(values)), "a file")
        raise UserError(f"{folder} was made from {named} of its maker's machine; {OTHERWISE}")
    return fetch_planned(ModelSection.model_validate(values), plan.source, client, progress)


def _files(values: object) -> list[str]:
    """Name the folder or file that a recipe's model lies in."""
    if not isinstance(values, Mapping):
        return []
    return [str(values[key]) for key in ("folder", "gguf") if values.get(key)]
