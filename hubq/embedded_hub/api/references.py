"""Branches, tags and the other refs of a repo."""

from collections.abc import Iterable
from typing import Any

from dulwich.objects import Tag
from dulwich.refs import Ref
from dulwich.repo import Repo
from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.committing import Message, move_ref, squash
from hubq.embedded_hub.history import commit_id, find_commit, peel
from hubq.embedded_hub.refusals import Refusal, check_branch_name, forbidden, revision_not_found
from hubq.embedded_hub.repositories import Access
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.routing import Route

BRANCHES, TAGS, PULLS = b"refs/heads/", b"refs/tags/", b"refs/pr/"


def refs(call: Call) -> Response:
    """List branches and tags, and pull requests when asked to."""
    with call.hub.histories.open(call.repo().id) as git:
        answer = {"branches": _list(git, BRANCHES), "converts": [], "tags": _list(git, TAGS)}
        if call.query.get("include_prs") in ("1", "true", "True"):
            answer["pullRequests"] = _list(git, PULLS)
    return JSONResponse(answer)


def create_branch(call: Call) -> Response:
    """Start a branch at a revision, main by default."""
    repo = call.repo()
    ref = Ref(BRANCHES + check_branch_name(call.path["branch"]).encode())
    with call.hub.locks.hold(repo.id), call.hub.histories.open(repo.id) as git:
        start = find_commit(git, call.optional_text("startingPoint") or "main")
        _refuse_taken(git, ref)
        move_ref(git, ref, None, start.id)
    return JSONResponse({})


def delete_branch(call: Call) -> Response:
    """Delete a branch, but never main."""
    if call.path["branch"] == "main":
        raise forbidden("The branch main cannot be deleted")
    return _delete(call, BRANCHES, call.path["branch"])


def create_tag(call: Call) -> Response:
    """Tag a revision; with a message, by an annotated tag."""
    repo = call.repo()
    name = check_branch_name(call.text("tag"))
    with call.hub.locks.hold(repo.id), call.hub.histories.open(repo.id) as git:
        commit = find_commit(git, call.path["revision"])
        ref = Ref(TAGS + name.encode())
        _refuse_taken(git, ref)
        target = commit.id
        if message := call.optional_text("message"):
            tag = _annotated(name, message, call.user())
            tag.object = (type(commit), commit.id)
            tag.tag_time = commit.commit_time
            git.object_store.add_object(tag)
            target = tag.id
        move_ref(git, ref, None, target)
    return JSONResponse({})


def delete_tag(call: Call) -> Response:
    """Delete a tag."""
    return _delete(call, TAGS, call.path["tag"])


def super_squash(call: Call) -> Response:
    """Replace the history of a branch by one commit."""
    repo = call.repo()
    branch = check_branch_name(call.path["branch"])
    ref = Ref(BRANCHES + branch.encode())
    with call.hub.locks.hold(repo.id), call.hub.histories.open(repo.id) as git:
        if git.refs.read_ref(ref) is None:
            raise revision_not_found(branch)
        summary = call.text("message", f"Super-squash branch {branch!r}")
        commit = squash(git, ref, Message(call.user(), summary))
    return JSONResponse({"commitId": commit_id(commit)})


def _annotated(name: str, message: str, user: str) -> Tag:
    tag = Tag()
    tag.name = name.encode()
    tag.message = message.encode() + b"\n"
    tag.tagger = f"{user} <{user}@users.noreply.localhost>".encode()
    tag.tag_timezone = 0
    return tag


def _list(git: Repo, prefix: bytes) -> list[dict[str, Any]]:
    found: Iterable[Ref] = (ref for ref in git.refs.allkeys() if ref.startswith(prefix))
    return [
        {
            "name": ref.decode() if prefix == PULLS else ref.removeprefix(prefix).decode(),
            "ref": ref.decode(),
            "targetCommit": commit_id(peel(git, git.refs[ref])),
        }
        for ref in sorted(found)
    ]


def _refuse_taken(git: Repo, ref: Ref) -> None:
    """Refuse a ref that exists, or that git can't keep beside one that does."""
    for other in git.refs.allkeys():
        if other == ref:
            raise Refusal(409, "Reference already exists")
        if other.startswith(ref + b"/") or ref.startswith(other + b"/"):
            raise Refusal(409, f"Reference clashes with {other.decode()}")


def _delete(call: Call, prefix: bytes, name: str) -> Response:
    repo = call.repo()
    ref = Ref(prefix + check_branch_name(name).encode())
    with call.hub.locks.hold(repo.id), call.hub.histories.open(repo.id) as git:
        if git.refs.read_ref(ref) is None:
            raise revision_not_found(name)
        git.refs.remove_if_equals(ref, None)
    return JSONResponse({})


ROUTES = (
    Route("GET", "/api/{kind}/{namespace}/{name}/refs", refs, Access.KNOW),
    Route("POST", "/api/{kind}/{namespace}/{name}/branch/{branch}", create_branch, Access.WRITE),
    Route("DELETE", "/api/{kind}/{namespace}/{name}/branch/{branch}", delete_branch, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/tag/{revision}", create_tag, Access.WRITE),
    Route("DELETE", "/api/{kind}/{namespace}/{name}/tag/{tag}", delete_tag, Access.WRITE),
    Route(
        "POST", "/api/{kind}/{namespace}/{name}/super-squash/{branch}", super_squash, Access.WRITE
    ),
)
