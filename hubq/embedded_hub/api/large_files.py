"""The large files of a repo: listing, deleting, copying to another repo."""

from typing import Any

from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.description import timestamp
from hubq.embedded_hub.history import describe, find_commit, list_entries
from hubq.embedded_hub.refusals import bad_request
from hubq.embedded_hub.repositories import KINDS, Access, Repository
from hubq.embedded_hub.requests import Call, page
from hubq.embedded_hub.routing import Route

PAGE = 1000


def listing(call: Call) -> Response:
    """List what the repo holds, whether a commit names it or not."""
    repo = call.repo()
    names = _names(call, repo)
    rows = [
        {
            "oid": sha256,
            "fileOid": sha256,
            "filename": names.get(sha256, ""),
            "size": call.hub.objects.size(sha256) or 0,
            "pushedAt": timestamp(pushed),
            "ref": "refs/heads/main" if sha256 in names else None,
        }
        for sha256, pushed in call.hub.repositories.holdings(repo).items()
    ]
    return page(call, rows, lambda row: row, size=PAGE)


def delete(call: Call) -> Response:
    """Take large files away from a repo; its pointers to them stay and resolve no more."""
    repo = call.repo()
    deletions = call.json().get("deletions")
    wanted = deletions.get("sha") if isinstance(deletions, dict) else None
    if not isinstance(wanted, list):
        raise bad_request("'deletions' must be {'sha': [...]}")
    call.hub.repositories.drop(repo, [str(sha256) for sha256 in wanted])
    return JSONResponse({})


def duplicate(call: Call) -> Response:
    """Let another repo hold large files of this one, without sending them again."""
    source = call.repo()
    target = _target(call)
    held = call.hub.repositories.holdings(source)
    wanted = [str(file.get("sha256")) for file in call.rows("files")]
    call.hub.repositories.hold(target.id, [sha256 for sha256 in wanted if sha256 in held])
    failed = [
        {"sha256": sha256, "error": "The source repo holds no such file"}
        for sha256 in wanted
        if sha256 not in held
    ]
    return JSONResponse({"succeeded": [sha for sha in wanted if sha in held], "failed": failed})


def _target(call: Call) -> Repository:
    target: Any = call.json().get("target")
    for kind in KINDS:
        if isinstance(target, dict) and target.get("type", "model") == kind:
            namespace, _, name = str(target.get("name")).partition("/")
            return call.named(kind, namespace, name, Access.WRITE)
    raise bad_request("'target' must be {'type': ..., 'name': ...}")


def _names(call: Call, repo: Repository) -> dict[str, str]:
    """Map each large file that main names to its path."""
    with call.hub.histories.open(repo.id) as git:
        entries = list_entries(git, find_commit(git, "main"))
        files = [describe(git, path, entry) for path, entry in entries.items()]
    return {file.pointer.sha256: file.path for file in files if file.pointer}


ROUTES = (
    Route("GET", "/api/{kind}/{namespace}/{name}/lfs-files", listing, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/lfs-files/batch", delete, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/lfs-files/duplicate", duplicate, Access.READ),
)
