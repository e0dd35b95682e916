"""Creating, describing, listing, renaming, copying and deleting repos."""

import dataclasses
import shutil
import zlib
from collections.abc import Mapping
from typing import Any

from dulwich.errors import FileFormatException
from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.api.spaces import check_setting
from hubq.embedded_hub.description import describe_repo
from hubq.embedded_hub.history import find_commit
from hubq.embedded_hub.hub import create_repo, delete_repo, place_repo
from hubq.embedded_hub.refusals import (
    Refusal,
    bad_request,
    check_account_name,
    check_repo_name,
    forbidden,
)
from hubq.embedded_hub.repositories import (
    KINDS,
    Access,
    Belongings,
    Repository,
    draft,
    may_read,
)
from hubq.embedded_hub.requests import Call, page
from hubq.embedded_hub.routing import Route
from hubq.records.card_rules import SDKS
from hubq.records.vocabulary import Kind

VISIBILITIES = {"public": False, "private": True, "protected": True}
PAGE = 500
# A repo that was deleted meanwhile, or that a failing disk has damaged, is no reason for no list.
UNREADABLE = (Refusal, KeyError, zlib.error, FileFormatException)


def create(call: Call) -> Response:
    """Make a repo in the visitor's namespace or in one of their organizations."""
    kind = _kind(call.json())
    name = check_repo_name(call.text("name"))
    namespace = call.json().get("organization") or call.user()
    _check_namespace(call, kind, check_account_name(str(namespace)))
    repo = draft(kind, namespace, name, private=_private_or_none(call.json()) or False)
    if kind == "space":
        repo = _space(repo, call)
    given = _settings(call)
    existing = call.hub.repositories.find(kind, namespace, name)
    if existing is not None:
        raise _taken(call, existing, "You already created this {kind} repo")
    try:
        create_repo(call.hub, repo, call.user(), Belongings(settings=given))
    except FileExistsError as error:
        raise _taken(call, repo, "You already created this {kind} repo") from error
    return JSONResponse(_created(call, repo))


def delete(call: Call) -> Response:
    """Delete a repo with all its history."""
    namespace = call.json().get("organization") or call.user()
    repo = call.named(_kind(call.json()), str(namespace), call.text("name"), Access.WRITE)
    with call.hub.locks.hold(repo.id):
        delete_repo(call.hub, repo)
    return JSONResponse({})


def move(call: Call) -> Response:
    """Give a repo another name or namespace."""
    kind = _kind(call.json())
    repo = call.named(kind, *split_name(call.text("fromRepo")), Access.WRITE)
    namespace, name = split_name(call.text("toRepo"))
    _check_namespace(call, kind, namespace)
    target = dataclasses.replace(repo, namespace=namespace, name=check_repo_name(name))
    try:
        call.hub.repositories.change(repo, namespace=namespace, name=name)
    except FileExistsError as error:
        raise _taken(call, target, "This {kind} repo already exists") from error
    return JSONResponse(_created(call, target))


def duplicate(call: Call) -> Response:
    """Copy a repo that the visitor may download, as it is now."""
    source = call.repo()
    namespace, name = split_name(call.text("repository"))
    _check_namespace(call, source.kind, namespace)
    private = _private_or_none(call.json())
    copy = dataclasses.replace(
        draft(source.kind, namespace, name, private=source.private if private is None else private),
        sdk=source.sdk,
        hardware=source.hardware,
        gate=source.gate,  # else a copy would be a way around it
    )
    given = Belongings(large_files=tuple(call.hub.repositories.holdings(source)))
    try:
        with place_repo(call.hub, copy, given) as place, call.hub.locks.hold(source.id):
            shutil.copytree(call.hub.histories.path(source.id), place)
    except FileExistsError as error:
        raise _taken(call, copy, "You already created this {kind} repo") from error
    return JSONResponse(_created(call, copy))


def settings(call: Call) -> Response:
    """Change who may see a repo and who may download from it."""
    repo = call.repo()
    gate = call.json().get("gated")
    if gate not in (None, False, "auto", "manual"):
        raise bad_request("'gated' must be 'auto', 'manual' or false")
    private = _private_or_none(call.json())
    private = repo.private if private is None else private
    gate = repo.gate if gate is None else gate or "no"
    call.hub.repositories.change(repo, private=int(private), gated=gate)
    return JSONResponse({"private": private, "gated": False if gate == "no" else gate})


def info(call: Call) -> Response:
    """Describe a repo, at its head or at a revision."""
    repo = call.repo()
    with call.hub.histories.open(repo.id) as git:
        commit = find_commit(git, call.path.get("revision", "main"))
        blobs = call.query.get("blobs", "").lower() in ("1", "true")
        answer = describe_repo(call.hub, repo, git, commit, blobs=blobs)
    return JSONResponse(_expanded(call, answer))


def listing(call: Call) -> Response:
    """List the repos that the visitor may see, filtered as the query says."""
    shown = [repo for repo in call.hub.repositories.all(call.kind) if may_read(repo, call.visitor)]
    author, search = call.query.get("author"), call.query.get("search", "").lower()
    if author is not None:
        shown = [repo for repo in shown if repo.namespace.lower() == author.lower()]
    shown = [repo for repo in shown if search in repo.full_name.lower()]
    if call.query.get("sort") == "lastModified":
        shown.sort(key=lambda repo: _changed(call, repo), reverse=True)
    wanted = set(call.request.query_params.getlist("filter"))
    if "pipeline_tag" in call.query:
        wanted.add(call.query["pipeline_tag"])
    return page(call, shown, lambda repo: _listed(call, repo, wanted), size=PAGE)


def _listed(call: Call, repo: Repository, tags: set[str]) -> dict[str, Any] | None:
    """Describe a repo for a list; None if it lacks a tag, or its history can't be read."""
    try:
        with call.hub.histories.open(repo.id) as git:
            answer = describe_repo(call.hub, repo, git, find_commit(git, "main"))
    except UNREADABLE:
        return None
    return _expanded(call, answer) if tags <= set(answer["tags"]) else None


def _changed(call: Call, repo: Repository) -> int:
    """Return when a repo's main branch was last changed, from its head alone."""
    try:
        with call.hub.histories.open(repo.id) as git:
            return int(find_commit(git, "main").commit_time)
    except UNREADABLE:
        return 0


def grant(call: Call) -> Response:
    """Let a user download from a gated repo."""
    repo = call.repo()
    _known_user(call)
    call.hub.repositories.grant(repo, call.text("user"))
    return JSONResponse({})


def handle_access(call: Call) -> Response:
    """Accept or reject a user's request to download from a gated repo."""
    repo = call.repo()
    _known_user(call)
    accepted = call.text("status") == "accepted"
    call.hub.repositories.grant(repo, call.text("user"), allowed=accepted)
    return JSONResponse({})


def _known_user(call: Call) -> None:
    if call.hub.accounts.kind_of(call.text("user")) != "user":
        raise Refusal(404, "This user does not exist")


def _expanded(call: Call, answer: dict[str, Any]) -> dict[str, Any]:
    """Keep only what the client asked for, if it asked for something."""
    wanted = set(call.request.query_params.getlist("expand"))
    if not wanted:
        return answer
    return {key: value for key, value in answer.items() if key in wanted | {"_id", "id"}}


def _check_namespace(call: Call, kind: Kind, namespace: str) -> None:
    """Refuse a visitor who may not create a repo in a namespace."""
    if call.visitor.anonymous:
        call.user()
    if not call.visitor.writes_to(namespace) or call.visitor.only is not None:
        raise forbidden(
            f"You don't have the rights to create a {kind} under the namespace {namespace!r}"
        )


def _kind(body: Mapping[str, Any]) -> Kind:
    wanted = body.get("type") or "model"
    if wanted not in KINDS:
        raise bad_request(f"'type' must be one of {', '.join(KINDS)}")
    return next(kind for kind in KINDS if kind == wanted)


def _private_or_none(body: Mapping[str, Any]) -> bool | None:
    """Read the visibility that a body asks for; None when it doesn't."""
    if isinstance(body.get("private"), bool):
        return bool(body["private"])
    if (visibility := body.get("visibility")) is None:
        return None
    if not isinstance(visibility, str) or visibility not in VISIBILITIES:
        raise bad_request(f"'visibility' must be one of {', '.join(VISIBILITIES)}")
    return VISIBILITIES[visibility]


def _space(repo: Repository, call: Call) -> Repository:
    if call.json().get("sdk") not in SDKS:
        raise bad_request(f"'sdk' must be one of {', '.join(SDKS)}")
    given = call.json().get("sleepTimeSeconds") is not None
    return dataclasses.replace(
        repo,
        sdk=call.text("sdk"),
        hardware=call.optional_text("hardware"),
        sleep=call.number("sleepTimeSeconds") if given else None,
    )


def _settings(call: Call) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Read the secrets and variables that a new Space shall have, or refuse bad ones."""
    tables = ("secrets", "variables")
    given = tuple((table, setting) for table in tables for setting in call.rows(table))
    for _, setting in given:
        check_setting(setting)
    return given


def split_name(value: str) -> tuple[str, str]:
    """Split namespace/name, or refuse a name without a namespace."""
    namespace, slash, name = value.partition("/")
    if not slash:
        raise bad_request(f"{value!r} has no namespace")
    return namespace, name


def _taken(call: Call, repo: Repository, message: str) -> Refusal:
    """Build the refusal of a name that a repo has; the client reads the `url` in it."""
    text = message.format(kind=repo.kind)
    return Refusal(409, text, body={"url": f"{call.base}/{repo.address}", "name": repo.full_name})


def _created(call: Call, repo: Repository) -> dict[str, Any]:
    """Describe a repo that was just made or renamed."""
    return {"url": f"{call.base}/{repo.address}", "name": repo.full_name, "id": repo.id[:24]}


ROUTES = (
    Route("POST", "/api/repos/create", create, Access.NO_REPO),
    Route("DELETE", "/api/repos/delete", delete, Access.NO_REPO),
    Route("POST", "/api/repos/move", move, Access.NO_REPO),
    Route("GET", "/api/{kind}", listing, Access.NO_REPO),
    Route("GET", "/api/{kind}/{namespace}/{name}", info, Access.KNOW),
    Route("GET", "/api/{kind}/{namespace}/{name}/revision/{revision}", info, Access.KNOW),
    Route("PUT", "/api/{kind}/{namespace}/{name}/settings", settings, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/user-access-request/grant", grant, Access.WRITE),
    Route(
        "POST",
        "/api/{kind}/{namespace}/{name}/user-access-request/handle",
        handle_access,
        Access.WRITE,
    ),
    Route("POST", "/api/{kind}/{namespace}/{name}/duplicate", duplicate, Access.READ),
)
