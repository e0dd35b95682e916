"""The large files of a repo: over git LFS, in parts too; listing, deleting and copying them."""

import math
import shutil
import uuid
from pathlib import Path
from string import hexdigits
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response

from hubq.embedded_hub.description import timestamp
from hubq.embedded_hub.history import describe, find_commit, list_entries
from hubq.embedded_hub.hub import check_room
from hubq.embedded_hub.refusals import Refusal, bad_request
from hubq.embedded_hub.repositories import KINDS, Access, Repository
from hubq.embedded_hub.requests import Call, page, stream_body
from hubq.embedded_hub.routing import Route, everywhere
from hubq.embedded_hub.storage import Incoming, Pointer

MULTIPART_FROM = 64 * 1024 * 1024  # bytes; a smaller file comes in one piece
PART = 32 * 1024 * 1024
MAX_OBJECTS = 1000
LIFETIME = 24 * 3600  # seconds that an upload may take
MAX_SIZE = 10_000 * PART
MAX_PARTS = 100_000  # of one answer, each with a ticket of its own
MEDIA_TYPE = "application/vnd.git-lfs+json"
PAGE = 1000


def batch(call: Call) -> Response:
    """Tell for each object where to upload it or where to download it from."""
    pointers = [_pointer(item) for item in _objects(call)]
    repo = call.repo()
    held = call.hub.repositories.holdings(repo)
    if call.json().get("operation") == "download":
        answers = [_download(call, wanted, known=wanted.sha256 in held) for wanted in pointers]
    else:
        call.check_contribute()
        if sum(_part_count(pointer.size) for pointer in pointers) > MAX_PARTS:
            raise bad_request("These objects are too large for one upload: name fewer")
        new = {wanted.sha256: wanted.size for wanted in pointers if wanted.sha256 not in held}
        check_room(call.hub, repo, sum(new.values()))
        answers = [
            _stored(wanted) if wanted.sha256 in held else _upload(call, repo, wanted)
            for wanted in pointers
        ]
    parts = any("chunk_size" in _header(answer) for answer in answers)
    answer = {"transfer": "multipart" if parts else "basic", "objects": answers}
    return JSONResponse({**answer, "hash_algo": "sha256"}, media_type=MEDIA_TYPE)


async def put(call: Call) -> Response:
    """Receive a whole object, and keep it if it is what its name says."""
    ticket = call.hub.tickets.read(call.path["ticket"], "lfs-upload")
    with call.hub.objects.receive() as incoming:
        async for chunk in stream_body(call.request, int(ticket["size"])):
            await run_in_threadpool(incoming.write, chunk)
        await run_in_threadpool(_keep, call, ticket, incoming)
    return Response(headers={"ETag": f'"{ticket["oid"]}"'})


async def put_part(call: Call) -> Response:
    """Receive one part of an object; it waits on disk for the others."""
    ticket = call.hub.tickets.read(call.path["ticket"], "lfs-part")
    with call.hub.objects.receive() as incoming:
        async for chunk in stream_body(call.request, PART):
            await run_in_threadpool(incoming.write, chunk)
        etag = incoming.sha256
        incoming.keep(call.hub.objects.part(ticket["upload"], int(ticket["part"])))
    return Response(headers={"ETag": f'"{etag}"'})


def complete(call: Call) -> Response:
    """Join the parts of an object, and keep it if it is what its name says."""
    ticket = call.hub.tickets.read(call.path["ticket"], "lfs-complete")
    numbers = range(1, _part_count(int(ticket["size"])) + 1)
    named = [part.get("partNumber") for part in call.rows("parts")]
    if {number for number in named if isinstance(number, int)} != set(numbers):
        raise bad_request(f"The upload has {len(numbers)} parts, and the request names other ones")
    parts = [call.hub.objects.part(ticket["upload"], number) for number in numbers]
    # A client whose answer was lost asks twice: then the parts are gone, and the repo holds the
    # object. That the object is here proves nothing: it may be another repo's.
    if not call.hub.repositories.holds(ticket["repo"], ticket["oid"]):
        _join(call, ticket, parts)
    shutil.rmtree(parts[0].parent, ignore_errors=True)
    return JSONResponse({}, media_type=MEDIA_TYPE)


def verify(call: Call) -> Response:
    """Confirm that an object arrived whole."""
    repo, oid = call.repo(), call.text("oid")
    held = oid in call.hub.repositories.holdings(repo)
    if not held or call.hub.objects.size(oid) != call.json().get("size"):
        raise Refusal(404, "The object was not uploaded")
    return JSONResponse({}, media_type=MEDIA_TYPE)


def get(call: Call) -> Response:
    """Send an object to whoever got a ticket for it from the batch API."""
    ticket = call.hub.tickets.read(call.path["ticket"], "lfs-download")
    return FileResponse(call.hub.objects.path(ticket["oid"]), media_type="application/octet-stream")


def _keep(call: Call, ticket: dict[str, str], incoming: Incoming) -> None:
    if incoming.size != int(ticket["size"]):
        raise bad_request(f"The upload has {incoming.size} bytes, not {ticket['size']}")
    if incoming.sha256 != ticket["oid"]:
        raise bad_request(f"The upload has the sha256 {incoming.sha256}, not {ticket['oid']}")
    incoming.keep(call.hub.objects.path(ticket["oid"]))
    call.hub.repositories.hold(ticket["repo"], [ticket["oid"]])


def _join(call: Call, ticket: dict[str, str], parts: list[Path]) -> None:
    if missing := [path.name for path in parts if not path.exists()]:
        raise bad_request(f"The parts {', '.join(missing)} never arrived")
    with call.hub.objects.receive() as incoming:
        for path in parts:
            with path.open("rb") as part:
                while chunk := part.read(1024 * 1024):
                    incoming.write(chunk)
        _keep(call, ticket, incoming)


def _objects(call: Call) -> list[Any]:
    objects = call.json().get("objects")
    if not isinstance(objects, list) or len(objects) > MAX_OBJECTS:
        raise bad_request(f"'objects' must be a list of at most {MAX_OBJECTS}")
    return objects


def _pointer(item: Any) -> Pointer:  # noqa: ANN401 - whatever the JSON holds
    oid = item.get("oid") if isinstance(item, dict) else None
    if not isinstance(oid, str) or len(oid) != 64 or set(oid) - set(hexdigits.lower()):
        raise bad_request("An object's oid is not a sha256")
    if type(item.get("size")) is not int or not 0 <= item["size"] <= MAX_SIZE:
        raise bad_request("An object's size is out of range")
    return Pointer(oid, item["size"])


def _stored(wanted: Pointer) -> dict[str, Any]:
    """Say that an object is here already: by leaving "actions" out."""
    return {"oid": wanted.sha256, "size": wanted.size, "authenticated": True}


def _upload(call: Call, repo: Repository, wanted: Pointer) -> dict[str, Any]:
    facts: dict[str, str | int] = {"repo": repo.id, "oid": wanted.sha256, "size": wanted.size}
    transfers = call.json().get("transfers")
    parts = isinstance(transfers, list) and "multipart" in transfers
    if parts and wanted.size > MULTIPART_FROM:
        upload = _multipart(call, facts)
    else:
        ticket = call.hub.tickets.issue({**facts, "purpose": "lfs-upload"}, LIFETIME)
        upload = {"href": f"{call.base}/lfs/objects/{ticket}"}
    verify_href = f"{call.base}/{repo.address}.git/info/lfs/verify"
    return {**_stored(wanted), "actions": {"upload": upload, "verify": {"href": verify_href}}}


def _multipart(call: Call, facts: dict[str, str | int]) -> dict[str, Any]:
    facts = {**facts, "upload": uuid.uuid4().hex}
    header = {"chunk_size": str(PART)}
    for number in range(1, _part_count(int(facts["size"])) + 1):
        part = {**facts, "part": number, "purpose": "lfs-part"}
        header[str(number)] = f"{call.base}/lfs/parts/{call.hub.tickets.issue(part, LIFETIME)}"
    ticket = call.hub.tickets.issue({**facts, "purpose": "lfs-complete"}, LIFETIME)
    return {"href": f"{call.base}/lfs/complete/{ticket}", "header": header}


def _part_count(size: int) -> int:
    return math.ceil(size / PART)


def _download(call: Call, wanted: Pointer, *, known: bool) -> dict[str, Any]:
    if not known:
        return {**_stored(wanted), "error": {"code": 404, "message": "Object does not exist"}}
    ticket = call.hub.tickets.issue({"oid": wanted.sha256, "purpose": "lfs-download"})
    href = f"{call.base}/lfs/objects/{ticket}"
    return {**_stored(wanted), "actions": {"download": {"href": href}}}


def _header(answer: dict[str, Any]) -> dict[str, str]:
    header = answer.get("actions", {}).get("upload", {}).get("header", {})
    return dict(header)


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
        {"sha256": sha256, "error": "The source repo has no such file"}
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
    Route("PUT", "/lfs/objects/{ticket}", put, Access.OPEN),
    Route("GET|HEAD", "/lfs/objects/{ticket}", get, Access.OPEN),
    Route("PUT", "/lfs/parts/{ticket}", put_part, Access.OPEN),
    Route("POST", "/lfs/complete/{ticket}", complete, Access.OPEN),
    *everywhere("POST", ".git/info/lfs/objects/batch", batch, Access.READ),
    *everywhere("POST", ".git/info/lfs/verify", verify, Access.READ),
    Route("GET", "/api/{kind}/{namespace}/{name}/lfs-files", listing, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/lfs-files/batch", delete, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/lfs-files/duplicate", duplicate, Access.READ),
)
