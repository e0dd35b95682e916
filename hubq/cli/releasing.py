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


def tell_warnings(stage: Stages) -> None:
    """Say what lint warns of in what is published; errors have stopped it before."""
    from hubq.stages.lint.gather import folder_release
    from hubq.stages.lint.lint import described, lint

    for folder in released(stage):
        for each in lint(folder_release(folder)).findings:
            if each.severity == "warning":
                tell(described(each))


def publications(stage: Stages, *, load: bool = True) -> "tuple[Publication, ...]":
    """Publish; the Hub is asked before anything is computed, and compared with at the end.

    What waits there is loaded before it is published, unless `load` is false. What an adapter is
    loaded on comes first.
    """
    from hubq.records.adapted_report import AdaptedReport
    from hubq.stages.compare.reports import find_siblings, keep
    from hubq.stages.publish.adapted import publish_adapted, remember_destinations
    from hubq.stages.publish.publish import publish

    stage.prepare()
    planned = stage.plan()
    if not (stage.run / REPORT).is_file():
        stage.client.may_publish(planned.repo)
    _require_named(stage, planned)
    remember_destinations(planned, stage.run, stage.client)
    report = stage.report()
    with stage.clock.timing("publish"):
        for folder, each in released(stage).items():
            keep(find_siblings(each, folder, tell, stage.client), folder)
        if isinstance(report, AdaptedReport):
            done = publish_adapted(report, stage.run, stage.client, stage.progress, load=load)
        else:
            done = (publish(report, stage.run, stage.client, stage.progress, load=load),)
    tell_warnings(stage)
    return done


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
