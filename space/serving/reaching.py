"""From a released model to what can be asked: where its weights are on this machine or a Hub."""

from releases.models import Released

from hubq.client import Client
from hubq.errors import UserError
from serving.messages import Model


def reach(model: Released, client: Client) -> Model:
    """Return where a model's weights are, fetched where a recipe names them in its own way.

    A repo is not fetched yet: whether it fits into memory is asked first.
    """
    weights = model.weights
    if weights is None:
        raise UserError(
            f"only the report of {model.name} is at hand here, not its weights: its numbers can be "
            "read, but it can't answer"
        )
    if weights.repo is not None:
        repo, _, revision = weights.repo.partition("@")
        return Model(repo=repo, revision=revision or None)
    section = weights.section
    if section is not None and section.hub is not None:
        repo, _, revision = (weights.identity or section.hub).partition("@")
        return Model(repo=repo, revision=revision or None)
    folder = weights.fetch(client)
    return Model(folder=folder, changed=(folder / "config.json").stat().st_mtime_ns)
