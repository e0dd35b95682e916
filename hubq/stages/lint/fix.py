"""Mend what can be mended without touching weights: in a folder, or on the Hub.

A repo of one's own gets a commit, and a stranger's a pull request, upon the commit that was looked
at, so that nothing that changed meanwhile is overwritten.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubq.client.client import Client
from hubq.client.repo_files import MOST_LISTED, at_most
from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.records.run_folder import PLAN, REPORT_IN_A_REPO
from hubq.stages.lint.findings import Finding
from hubq.stages.lint.lint import lint
from hubq.stages.lint.release import Release

if TYPE_CHECKING:
    from huggingface_hub import Discussion

TITLE = "Mend what keeps this model from loading as it should"


class Mended(NamedTuple):
    """A release with its small files mended, and what was mended."""

    release: Release
    done: tuple[Finding, ...]


def mend(release: Release) -> Mended:
    """Apply each fix once, upon those before it; raise UserError for files that were measured."""
    if REPORT_IN_A_REPO in release.files:
        raise UserError(
            f"{release.name} was made by hubq, which measured these files: changed ones would not "
            "match its report. Publish it again with this version"
        )
    done: list[Finding] = []
    while found := _next(release, done):
        release = release.mended(found.fix or {})
        done.append(found)
    return Mended(release, tuple(done))


def _next(release: Release, done: list[Finding]) -> Finding | None:
    """Return the next finding with a fix that wasn't tried."""
    tried = {(each.rule, each.where) for each in done}
    waiting = (each for each in lint(release).findings if each.fix)
    return next((each for each in waiting if (each.rule, each.where) not in tried), None)


def write(mended: Mended, folder: Path) -> None:
    """Write the mended files into the folder; raise UserError for a run's."""
    if (folder / PLAN).is_file():
        raise UserError(
            f"{folder} is a run folder, whose files are what is measured: run hubq again with "
            "--fresh, or lint a copy of its model"
        )
    for path, content in mended.release.changed.items():
        write_atomically(folder / path, content)


def is_own(repo: str, client: Client) -> bool:
    """Tell whether the user may commit to a repo; raise UserError without a token."""
    client.user()
    try:
        client.writable(repo.partition("/")[0])
    except UserError:
        return False
    return True


def _refuse_second(repo: str, client: Client) -> None:
    """Raise UserError where a pull request of the user's is open already."""
    name = client.user().get("name")
    with client.translate_errors(f"looking at the pull requests of {repo}"):
        found = client.api().get_repo_discussions(
            repo, discussion_type="pull_request", discussion_status="open"
        )
        mine = [each.num for each in at_most(MOST_LISTED, found) if _is_mine(each, name)]
    if mine:
        raise UserError(
            f"you have proposed this already: {client.url}/{repo}/discussions/{mine[0]}.\n"
            "Close that one to propose another"
        )


def _is_mine(discussion: "Discussion", name: object) -> bool:
    return discussion.title == TITLE and discussion.author == name


def push(mended: Mended, client: Client, *, own: bool) -> str:
    """Commit the mended files to one's own repo, or propose them; return where to look at that."""
    from huggingface_hub import CommitOperationAdd

    repo, _, commit = mended.release.name.partition("@")
    if not own:
        _refuse_second(repo, client)
    lines = [f"- {each.rule}: {each.where}: {each.what} ({each.source})" for each in mended.done]
    with client.translate_errors(f"changing {repo}"):
        made = client.api().create_commit(
            repo,
            [CommitOperationAdd(path, each) for path, each in mended.release.changed.items()],
            commit_message=TITLE,
            commit_description="\n".join(["Found by `hubq lint`:", *lines]),
            parent_commit=commit,
            create_pr=not own,
        )
    return str(made.commit_url if own else made.pr_url)
