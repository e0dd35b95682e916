"""What became of the base that a release was made from: its name, commit, license and gate."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hubq.client.client import Client
from hubq.client.repo_files import RemoteFile, commit_of, files_of
from hubq.errors import UserError
from hubq.records.plan import Plan
from hubq.records.vocabulary import address
from hubq.sources.auxiliary_files import is_auxiliary
from hubq.sources.base_card import license_of
from hubq.sources.license_terms import is_license_file
from hubq.sources.weight_files import is_weights
from hubq.stages.watch.findings import Change

SHOWN, LONGEST = 5, 80  # files, and characters of what others wrote
AGAIN = "Quantize again from the new commit: hubq publish RECIPE --fresh"
READ = "Read the terms, then set publish.license, gated or private in the recipe and publish again"


class Base(NamedTuple):
    """A base as it is now, beside a commit that releases were made from."""

    changes: tuple[Change, ...]
    is_there: bool = False
    license: str | None = None
    is_gated: bool = False


def base_of(plan: Plan) -> tuple[str, str | None] | None:
    """Return the repo that a plan's weights came from and their commit; None: it names no repo.

    Of weights from a file or a wheel only the name of their base is known.
    """
    for text in filter(None, (plan.source, plan.base_model)):
        try:
            name, commit = address(text)
        except UserError:
            continue
        if "/" in name and (commit or text == plan.base_model):
            return name, commit
    return None


def look(name: str, commit: str | None, client: Client) -> Base:
    """Look at a base; raise UserError where that can't be done now.

    One without a commit may live on another Hub, so that it isn't on this one says nothing.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with client.translate_errors(f"looking up {name}"):
        try:
            info = client.retries.call(
                lambda: client.api().model_info(name, expand=["sha", "gated", "cardData"])
            )
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Base((_gone(name),) if commit else ())
        changes = [*_renamed(name, info.id)]
        if commit is not None:
            changes += _moved(info.id, commit, commit_of(info), client)
    card = info.card_data.to_dict() if info.card_data else {}
    license = license_of(card)
    return Base(tuple(changes), True, license and license[:LONGEST], bool(info.gated))


def terms(plan: Plan, name: str, base: Base) -> Iterator[Change]:
    """Say where a base's license or its gate are not those that a release was planned with."""
    if not base.is_there:
        return
    given = plan.recipe.get("model", {}).get("license")
    before = plan.base_card.license or (None if given else plan.license)
    if before != base.license and not (given and before is None):
        yield Change(
            kind="license",
            what=f"{name} says license: {base.license or 'none'}, and said {before or 'none'}",
            way_out=READ,
        )
    if base.is_gated and plan.base_card.gate is None:
        yield Change(
            kind="gate", what=f"{name} is gated by now, and was open to everybody", way_out=READ
        )


def _gone(name: str) -> Change:
    return Change(
        kind="base",
        what=f"{name} is gone: deleted, or private by now",
        way_out="Find out why: if it was withdrawn for its license, withdraw the release too",
    )


def _renamed(name: str, now: str) -> Iterator[Change]:
    if now.lower() != name.lower():
        yield Change(
            kind="base",
            what=f"{name} is called {now} by now",
            way_out="Name it so in the recipe and publish again: cards link to the old name",
        )


def _moved(name: str, commit: str, now: str, client: Client) -> Iterator[Change]:
    """Say which files of a base changed since a commit."""
    from huggingface_hub.errors import RevisionNotFoundError

    if commit == now:
        return
    try:
        before = files_of(client, name, commit)
    except RevisionNotFoundError:
        yield Change(
            kind="base",
            what=f"{name} no longer holds the commit {commit[:12]}, which was used",
            way_out=f"Nobody can make this release again. {AGAIN}",
        )
        return
    yield _changed(name, (commit, now), _differing(before, files_of(client, name, now)))


def _differing(before: Mapping[str, RemoteFile], now: Mapping[str, RemoteFile]) -> list[str]:
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def _changed(name: str, commits: tuple[str, str], paths: list[str]) -> Change:
    """Judge by what changed: weights, what is copied beside them, terms, or words alone."""
    moved = f"{name} moved from {commits[0][:12]} to {commits[1][:12]}"
    legal = [path for path in paths if is_license_file(path)]
    if weights := [path for path in paths if is_weights(path)]:
        return Change(kind="base", what=f"{moved}: other weights, {_some(weights)}", way_out=AGAIN)
    if legal:
        return Change(kind="license", what=f"{moved}: {_some(legal)}", way_out=READ)
    if beside := [path for path in paths if is_auxiliary(path)]:
        way_out = f"Copies have the old ones: if a mistake was mended there, {AGAIN.lower()}"
        return Change(kind="base", what=f"{moved}: {_some(beside)}", way_out=way_out)
    only = f"only {_some(paths)}" if paths else "no file changed"
    return Change(kind="base", what=f"{moved}: {only}", way_out="Nothing is to be done", due=False)


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(path[:LONGEST] for path in paths[:SHOWN]) + more
