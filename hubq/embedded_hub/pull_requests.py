"""Pull requests in git: who may push to one, opening one, merging one."""

import re

from dulwich.objects import Commit
from dulwich.refs import Ref
from dulwich.repo import Repo

from hubq.embedded_hub.call import Call
from hubq.embedded_hub.committing import Message, conflicts, merge, move_ref
from hubq.embedded_hub.discussions import Discussion, Discussions
from hubq.embedded_hub.history import commit_id, find_commit
from hubq.embedded_hub.hub import Hub
from hubq.embedded_hub.refusals import Refusal, forbidden
from hubq.embedded_hub.repositories import Repository


def opens_pull_request(call: Call) -> bool:
    """Tell whether a commit asks to become a pull request."""
    return call.query.get("create_pr") in ("1", "true")


def check_commit(call: Call, revision: str) -> None:
    """Refuse a visitor who may neither commit to a revision nor propose what was asked."""
    if opens_pull_request(call):
        call.check_contribute()
    else:
        _check_push(call, call.repo(), revision)


def _check_push(call: Call, repo: Repository, revision: str) -> None:
    """Refuse a visitor who may not commit to a revision: a branch, or a pull request."""
    pull = re.fullmatch(r"refs/pr/([0-9]{1,9})", revision)
    if pull is None:
        call.check_write(repo.namespace, repo.address)
        return
    call.check_contribute()
    discussion = Discussions(call.hub.database).find(repo, int(pull[1]))
    if discussion.author != call.visitor.name and not call.visitor.writes_to(repo.namespace):
        raise forbidden("Only its author and the repo's writers may push to a pull request")
    if discussion.status in ("closed", "merged"):
        raise forbidden(f"This pull request is {discussion.status}")


def open_pull_request(
    hub: Hub, repo: Repository, git: Repo, what: Message, steps: tuple[Commit, Commit]
) -> int:
    """Open a pull request from a base commit to a head, both `steps`; return its number."""

    def place(number: int) -> None:
        move_ref(git, pull_ref(number), None, steps[1].id)

    return Discussions(hub.database).start(repo, what, steps, place)


def pull_ref(number: int) -> Ref:
    """Name the ref of a pull request."""
    return Ref(b"refs/pr/%d" % number)


def list_conflicts(git: Repo, discussion: Discussion) -> list[str]:
    """List the files that main and the pull request changed in different ways."""
    if discussion.status == "merged":
        return []
    theirs = find_commit(git, f"refs/pr/{discussion.num}")
    return conflicts(git, find_commit(git, "main"), theirs)


def merge_pull_request(git: Repo, discussion: Discussion, user: str) -> str:
    """Merge a pull request into main and return the commit's id, or refuse it.

    The caller holds the repo's lock.
    """
    if not discussion.pull_request or discussion.status not in ("open", "draft"):
        raise Refusal(400, f"This discussion cannot be merged: it is {discussion.status}")
    if clash := list_conflicts(git, discussion):
        raise Refusal(409, f"Merge conflicts in {', '.join(clash)}", body={"files": clash})
    theirs = find_commit(git, f"refs/pr/{discussion.num}")
    message = Message(user, f"{discussion.title} (#{discussion.num})")
    return commit_id(merge(git, Ref(b"refs/heads/main"), theirs, message))
