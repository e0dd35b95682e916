"""A measured recipe on its way out: its cards, and its repos on a Hub."""

from pathlib import Path
from typing import TYPE_CHECKING

from hubq.cli.recipe_stages import Stages, tell
from hubq.records.run_folder import ADAPTED, REPORT

if TYPE_CHECKING:
    from hubq.records.plan import Plan
    from hubq.records.report import Report
    from hubq.stages.publish.publish import Publication


def card(stage: Stages) -> Path:
    """Write the cards: they are functions of the records, so they are always written anew."""
    from hubq.stages.card.card import renew
    from hubq.stages.compare.reports import find_siblings

    stage.report()
    paths = [
        renew(report, find_siblings(report, folder, tell), folder)
        for folder, report in released(stage).items()
    ]
    return paths[-1]


def released(stage: Stages) -> "dict[Path, Report]":
    """Return what is published of a measured run, in order, by its folder."""
    from hubq.records.adapted_report import load_report
    from hubq.stages.publish.adapted import publishes_quantized

    planned = stage.plan()
    folders = [stage.run] if publishes_quantized(planned) else []
    folders += [stage.run / ADAPTED] if planned.adaptation else []
    return {folder: load_report(folder / REPORT) for folder in folders}


def publications(
    stage: Stages, *, load: bool = True, update: bool = False
) -> "tuple[Publication, ...]":
    """Publish; the Hub is asked before anything is computed, and compared with at the end.

    What waits there is loaded before it is published, unless `load` is false. What an adapter is
    loaded on comes first. What would replace another release is refused unless it is an `update`.
    """
    from hubq.records.adapted_report import AdaptedReport
    from hubq.stages.compare.reports import find_siblings, keep
    from hubq.stages.plan.hub_room import require_storage
    from hubq.stages.publish.adapted import publish_adapted, remember_destinations
    from hubq.stages.publish.publish import publish
    from hubq.stages.publish.versions import prepare

    stage.prepare()
    planned = stage.plan()
    if not (stage.run / REPORT).is_file():
        stage.client.may_publish(planned.repo)
        require_storage(planned, stage.client)
        if not update:
            _refuse_to_replace(stage, planned)
    _require_named(stage, planned)
    remember_destinations(planned, stage.run, stage.client)
    report = stage.report()
    with stage.clock.timing("publish"):
        for folder, each in released(stage).items():
            keep(find_siblings(each, folder, tell, stage.client), folder)
            for warning in prepare(each, folder, stage.client, update=update):
                tell(warning)
        if isinstance(report, AdaptedReport):
            done = publish_adapted(report, stage.run, stage.client, stage.progress, load=load)
        else:
            done = (publish(report, stage.run, stage.client, stage.progress, load=load),)
    for warning in (each for one in done for each in one.warnings):
        tell(warning)
    return done


def _refuse_to_replace(stage: Stages, planned: "Plan") -> None:
    """Refuse repos that hold what another recipe made, before this one is at work for hours."""
    from hubq.stages.publish.adapted import publishes_quantized
    from hubq.stages.publish.versions import refuse_to_replace

    if publishes_quantized(planned):
        refuse_to_replace(planned, planned.repo, stage.run, stage.client)
    if planned.adaptation is not None:
        repo = planned.adaptation.repo
        refuse_to_replace(planned, repo, stage.run / ADAPTED, stage.client)


def _require_named(stage: Stages, planned: "Plan") -> None:
    """Refuse a quantized repo that the recipe names and that isn't this run's model.

    What is learnt for hours is learnt for that model, so it is quantized and compared first.
    """
    from hubq.stages.publish.adapted import published_already
    from hubq.stages.publish.apart import quantize_apart

    named = stage.recipe.publish.quantized
    if named is not None and planned.adaptation is not None and stage.is_to_adapt:
        checkpoint = stage.checkpoint(quantize_apart)
        published_already(named, checkpoint, stage.run, stage.client)
