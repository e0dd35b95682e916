"""A release before it is one: it waits on the Hub, is looked at there, and only then goes on main.

The run folder remembers under which name it waits, before anything is sent. So whatever ends a
publishing, the next one finds what was left: it goes on with it, or clears it away.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hubq.client.client import Client
from hubq.client.commit import Change, compare, land, landed, upload
from hubq.client.pushing import pushed
from hubq.client.repo_files import history_of
from hubq.client.retries import failures
from hubq.client.staging import Staged, discard, find, stage
from hubq.errors import UserError
from hubq.machine.files import partial_of
from hubq.machine.progress import Progress
from hubq.records.record import Record
from hubq.records.run_folder import STAGED

Look = Callable[[str], tuple[str, ...]]  # from the commit that waits to what was seen of it
RESENT = "this Hub takes no push by git: small files were sent again, and compared on main"
UNFIT = "It did not pass its checks, so it was not published."


class Waiting(Record):
    """Under which name a run's release waits, and in which repo."""

    repo: str
    name: str
    number: int | None = None  # of the pull request, once it is known


class Put(NamedTuple):
    """What came on main."""

    commit: str
    seen: tuple[str, ...]
    is_looked_at: bool  # whether it is the very commit; not where the Hub takes no push


def publish_staged(
    change: Change, run: Path, look: Look, client: Client, progress: Progress
) -> Put:
    """Put a change on main once it was looked at.

    What still waits is for `clear_away`. Raises what `look` raises, and UserError where main moved
    meanwhile: then main is as it was, and nothing waits any more.
    """
    additions = upload(change, client, progress)
    staged = _left(change, run, client)
    try:
        if staged is None:
            waiting = _named(change.repo, run)
            staged = stage(change, additions, waiting.name, client)
            waiting.model_copy(update={"number": staged.number}).save(run / STAGED)
        commit = staged.commit
    except UserError as refusal:
        raise _withdrawn(refusal, run, client) from refusal
    except failures():
        commit = landed(change, client)  # somebody published just these files meanwhile
        if commit is None:
            raise
    assert commit is not None, "what was just committed has a commit"
    try:
        seen = look(commit)
        if made := pushed(change, commit, client):
            return Put(made, seen, is_looked_at=made == commit)
        return Put(land(change, additions, client), (*seen, RESENT), is_looked_at=False)
    except UserError as refusal:
        raise _withdrawn(refusal, run, client) from refusal


def _named(repo: str, run: Path) -> Waiting:
    """Draw a name that nobody else gives, and remember it."""
    waiting = Waiting(repo=repo, name=f"hubq-{secrets.token_hex(6)}")
    waiting.save(run / STAGED)
    return waiting


def _left(change: Change, run: Path, client: Client) -> Staged | None:
    """Return what an earlier publishing left, if it is what is published now; else clear it away.

    What was made upon another head can't come on main as it is.
    """
    if not (run / STAGED).is_file():
        return None
    left = Waiting.load(run / STAGED)
    staged = _found(left, client)
    if staged and left.repo == change.repo and staged.commit:
        held = compare(change.repo, staged.commit, change.files, change.title, client)
        before = history_of(client, change.repo, staged.commit)[1:2]
        if not held.pending and before == [change.head]:
            return staged
    clear_away(run, "Published anew.", client)
    return None


def _found(left: Waiting, client: Client) -> Staged | None:
    """Find what waits, unless its repo is gone."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return find(left.repo, left.name, client, proposed=left.number is not None)
    except RepositoryNotFoundError:
        return None


def clear_away(run: Path, said: str, client: Client) -> None:
    """Close what a run left waiting, and forget it."""
    if not (run / STAGED).is_file():
        return
    if staged := _found(Waiting.load(run / STAGED), client):
        discard(staged, said, client)
    (run / STAGED).unlink()
    partial_of(run / STAGED).unlink(missing_ok=True)  # the disk was full, or a kill came then


def _withdrawn(refusal: UserError, run: Path, client: Client) -> UserError:
    """Clear away what was refused; say so where that can't be done now."""
    try:
        clear_away(run, UNFIT, client)
    except failures() as error:
        return UserError(
            f"{refusal}\nWhat waited on the Hub is still there ({type(error).__name__}); the next "
            "publishing clears it away"
        )
    return refusal
