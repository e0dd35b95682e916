"""Discussions and pull requests: opening, answering, closing, merging."""

from typing import Any

from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.committing import Message
from hubq.embedded_hub.discussions import (
    Discussion,
    Discussions,
    comment_data,
    list_conflicts,
    merge_pull_request,
    open_pull_request,
    pull_ref,
)
from hubq.embedded_hub.history import difference, find_commit
from hubq.embedded_hub.refusals import bad_request, forbidden, revision_not_found
from hubq.embedded_hub.repositories import Access, Repository
from hubq.embedded_hub.requests import Call, whole_number
from hubq.embedded_hub.routing import Route

PAGE = 50


def listing(call: Call) -> Response:
    """List discussions, newest first, filtered as the query says."""
    repo = call.repo()
    found = Discussions(call.hub.database).all(repo)
    kind, status, author = (call.query.get(key) for key in ("type", "status", "author"))
    if kind in ("discussion", "pull_request"):
        found = [one for one in found if one.pull_request == (kind == "pull_request")]
    if status in ("open", "closed"):
        found = [one for one in found if (one.status in ("open", "draft")) == (status == "open")]
    if author is not None:
        found = [one for one in found if one.author == author]
    start = whole_number(call, "p", 0) * PAGE
    shown = [one.describe(repo) for one in found[start : start + PAGE]]
    return JSONResponse({"discussions": shown, "count": len(found), "start": start})


def create(call: Call) -> Response:
    """Start a discussion or open a pull request on main."""
    repo = call.repo()
    call.check_contribute()
    title, text = call.text("title").strip(), call.text("description", "")
    if not title:
        raise bad_request("A discussion needs a title")
    what = Message(call.user(), title, text)
    if call.json().get("pullRequest"):
        with call.hub.locks.hold(repo.id), call.hub.histories.open(repo.id) as git:
            main = find_commit(git, "main")
            number = open_pull_request(call.hub, repo, git, what, (main, main))
    else:
        number = Discussions(call.hub.database).start(repo, what)
    found = Discussions(call.hub.database).find(repo, number)
    url = f"{call.base}/{repo.address}/discussions/{number}"
    return JSONResponse({**found.describe(repo), "url": url})


def details(call: Call) -> Response:
    """Show a discussion with all that happened in it; a pull request with its difference."""
    repo, discussion = _find(call)
    answer = discussion.describe(repo)
    answer["events"] = Discussions(call.hub.database).events(repo, discussion.num)
    if discussion.pull_request:
        with call.hub.histories.open(repo.id) as git:
            is_there = git.refs.read_ref(pull_ref(discussion.num)) is not None
            answer["filesWithConflicts"] = list_conflicts(git, discussion) if is_there else []
            if is_there and call.may_download():  # what is deleted or changed stands in it
                base = find_commit(git, str(discussion.base))
                head = find_commit(git, f"refs/pr/{discussion.num}")
                answer["diff"] = difference(git, base, head)
        answer["changes"] = {"base": "refs/heads/main", "mergeCommitId": discussion.merged}
    return JSONResponse(answer)


def comment(call: Call) -> Response:
    """Say something in a discussion."""
    repo, discussion = _find(call)
    call.check_contribute()
    return JSONResponse({"newMessage": _comment(call, repo, discussion, call.text("comment"))})


def edit(call: Call) -> Response:
    """Replace what one said."""
    repo, discussion = _find(call)
    event = _own_comment(call, repo, discussion)
    data = event["data"]
    history = [data["latest"], *data["history"]]
    changed = comment_data(call.text("content"), call.user())
    _store(call, event, {**changed, "edited": True, "history": history})
    return JSONResponse({"updatedComment": event})


def hide(call: Call) -> Response:
    """Take back what one said, for good."""
    repo, discussion = _find(call)
    event = _own_comment(call, repo, discussion)
    _store(
        call, event, {**comment_data("This comment has been hidden", call.user()), "hidden": True}
    )
    return JSONResponse({"updatedComment": event})


def status(call: Call) -> Response:
    """Close a discussion or open it again."""
    repo, discussion = _find(call)
    _check_steer(call, repo, discussion)
    wanted = call.text("status")
    if wanted not in ("open", "closed") or discussion.status == "merged":
        raise bad_request(f"A discussion that is {discussion.status} cannot become {wanted!r}")
    if text := call.text("comment", ""):
        _comment(call, repo, discussion, text)
    event = _set_status(call, repo, discussion, wanted)
    return JSONResponse({"newStatus": event})


def title(call: Call) -> Response:
    """Rename a discussion."""
    repo, discussion = _find(call)
    _check_steer(call, repo, discussion)
    wanted = call.text("title").strip()
    discussions = Discussions(call.hub.database)
    discussions.change(repo, discussion.num, title=wanted)
    data = {"from": discussion.title, "to": wanted}
    event = discussions.add_event(repo, discussion.num, call.user(), data, kind="title-change")
    return JSONResponse({"newTitle": event})


def merge(call: Call) -> Response:
    """Merge a pull request into main."""
    repo = call.repo()
    with call.hub.locks.hold(repo.id), call.hub.histories.open(repo.id) as git:
        _, discussion = _find(call)
        oid = merge_pull_request(git, discussion, call.user())
        if call.body.strip() not in (b"", b"null") and (text := call.text("comment", "")):
            _comment(call, repo, discussion, text)
        Discussions(call.hub.database).change(repo, discussion.num, merged=oid)
        _set_status(call, repo, discussion, "merged")
    return JSONResponse({"mergeCommitId": oid})


def delete_ref(call: Call) -> Response:
    """Let go of what a pull request that is no longer open proposed."""
    repo, discussion = _find(call)
    if discussion.status not in ("closed", "merged"):
        raise bad_request(
            f"Only a closed pull request lets go of its ref: it is {discussion.status}"
        )
    with call.hub.locks.hold(repo.id), call.hub.histories.open(repo.id) as git:
        if not discussion.pull_request or git.refs.read_ref(pull_ref(discussion.num)) is None:
            raise revision_not_found(f"refs/pr/{discussion.num}")
        git.refs.remove_if_equals(pull_ref(discussion.num), None)
    return JSONResponse({})


def _find(call: Call) -> tuple[Repository, Discussion]:
    repo = call.repo()
    return repo, Discussions(call.hub.database).find(repo, discussion_number(call))


def discussion_number(call: Call) -> int:
    """Return the number in the path, or refuse what is none."""
    number = call.path["num"]
    if not number.isdecimal() or len(number) > 9:
        raise bad_request(f"{number!r} is not a discussion number")
    return int(number)


def _comment(call: Call, repo: Repository, discussion: Discussion, text: str) -> dict[str, Any]:
    data = comment_data(text, call.user())
    discussions = Discussions(call.hub.database)
    return discussions.add_event(repo, discussion.num, call.user(), data, kind="comment")


def _set_status(
    call: Call, repo: Repository, discussion: Discussion, wanted: str
) -> dict[str, Any]:
    discussions = Discussions(call.hub.database)
    discussions.change(repo, discussion.num, status=wanted)
    data = {"status": wanted}
    return discussions.add_event(repo, discussion.num, call.user(), data, kind="status-change")


def _own_comment(call: Call, repo: Repository, discussion: Discussion) -> dict[str, Any]:
    event = Discussions(call.hub.database).event(repo, discussion.num, call.path["comment"])
    if event["type"] != "comment" or event["author"]["name"] != call.user():
        raise forbidden("Only its author may change a comment")
    return event


def _store(call: Call, event: dict[str, Any], data: dict[str, Any]) -> None:
    Discussions(call.hub.database).edit_event(event["id"], data)
    event["data"] = data


def _check_steer(call: Call, repo: Repository, discussion: Discussion) -> None:
    call.check_contribute()
    if discussion.author != call.user() and not call.visitor.writes_to(repo.namespace):
        raise forbidden("Only its author and the repo's writers may do that")


ROUTES = (
    Route("GET", "/api/{kind}/{namespace}/{name}/discussions", listing, Access.KNOW),
    Route("POST", "/api/{kind}/{namespace}/{name}/discussions", create, Access.KNOW),
    Route("GET", "/api/{kind}/{namespace}/{name}/discussions/{num}", details, Access.KNOW),
    Route("POST", "/api/{kind}/{namespace}/{name}/discussions/{num}/comment", comment, Access.KNOW),
    Route(
        "POST",
        "/api/{kind}/{namespace}/{name}/discussions/{num}/comment/{comment}/edit",
        edit,
        Access.KNOW,
    ),
    Route(
        "POST",
        "/api/{kind}/{namespace}/{name}/discussions/{num}/comment/{comment}/hide",
        hide,
        Access.KNOW,
    ),
    Route("POST", "/api/{kind}/{namespace}/{name}/discussions/{num}/status", status, Access.KNOW),
    Route("POST", "/api/{kind}/{namespace}/{name}/discussions/{num}/title", title, Access.KNOW),
    Route("POST", "/api/{kind}/{namespace}/{name}/discussions/{num}/merge", merge, Access.WRITE),
    Route(
        "DELETE", "/api/{kind}/{namespace}/{name}/discussions/{num}/ref", delete_ref, Access.WRITE
    ),
)
