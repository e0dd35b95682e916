"""A recipe that adapts publishes in order: the quantized model, then the adapter that names it.

Each repo has its own record of what the Hub holds, so a kill between the two goes on with the
second. An adapter is pinned to the commit of what it is loaded on.
"""

from pathlib import Path

from hubq.client.client import Client
from hubq.client.pull import is_read
from hubq.client.repo_files import LocalFile, differences, files_of, head_of
from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.records.adapted_report import AdaptedReport, load_report
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.run_folder import ADAPTED, MODEL, PLAN, REPORT
from hubq.records.vocabulary import address
from hubq.stages.evaluate.requirements import refuse_unmet
from hubq.stages.publish.publish import Publication, publish, remember_destination

SHOWN = 3  # files that differ


def publishes_quantized(plan: Plan) -> bool:
    """Tell whether a run publishes its quantized model, on its own or for an adapter of it."""
    if plan.adaptation is None:
        return True
    publishing = plan.recipe["publish"]
    elsewhere = publishing.get("quantized") or publishing.get("adapter_of") == "base"
    return plan.adaptation.makes == "adapter" and not elsewhere


def remember_destinations(plan: Plan, run: Path, client: Client) -> None:
    """Save what each repo holds that a run will publish."""
    if publishes_quantized(plan):
        remember_destination(plan.repo, run, client)
    if plan.adaptation is not None:
        remember_destination(plan.adaptation.repo, run / ADAPTED, client)


def publish_adapted(
    report: AdaptedReport,
    run: Path,
    client: Client,
    progress: Progress = SILENT,
    *,
    load: bool = True,
) -> tuple[Publication, ...]:
    """Publish what a run's adapter is loaded on, unless the recipe names it, then the adapter.

    A whole model is published alone. Raises UserError, before anything is sent, for an adapted
    model that misses what its recipe requires, and for a named repo with other files; and as
    `publish` does.
    """
    refuse_unmet(report)
    first: tuple[Publication, ...] = ()
    quantized = report.plan.recipe["publish"].get("quantized")
    if publishes_quantized(report.plan):
        first = (publish(load_report(run / REPORT), run, client, progress, load=load),)
        report = _pinned(report, f"{first[0].repo}@{first[0].commit}", run)
    elif report.is_adapter and quantized:
        report = _pinned(report, published_already(quantized, report.checkpoint, run, client), run)
    return (*first, publish(report, run / ADAPTED, client, progress, load=load))


def _pinned(report: AdaptedReport, quantized: str, run: Path) -> AdaptedReport:
    """Let an adapter's records name the commit of the quantized model."""
    assert report.plan.adaptation is not None, "a report of what was adapted"
    adaptation = report.plan.adaptation.model_copy(update={"quantized": quantized})
    plan = report.plan.model_copy(update={"adaptation": adaptation})
    pinned = report.model_copy(update={"plan": plan})
    plan.save(run / ADAPTED / PLAN)
    pinned.save(run / ADAPTED / REPORT)
    return pinned


def published_already(quantized: str, checkpoint: Checkpoint, run: Path, client: Client) -> str:
    """Return a repo as org/name@commit; raise UserError unless it holds just run/model's files."""
    repo, revision = address(quantized)
    with client.translate_errors(f"looking up {quantized}"):
        commit, _ = head_of(client, repo, revision)
        remote = files_of(client, repo, commit)
    local = {path: LocalFile(run / MODEL / path) for path in checkpoint.files}
    added = [path for path in remote if path not in local and is_read(path)]
    if wrong := sorted([*differences(local, remote), *added]):
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(
            f"publish.quantized: {repo} at {commit[:12]} does not hold the model in {run / MODEL}, "
            f"to which the adapter belongs: {', '.join(wrong[:SHOWN])}{more} differ.\n"
            "Name the commit that holds it (org/name@commit), or leave quantized out to publish it"
        )
    return f"{repo}@{commit}"
