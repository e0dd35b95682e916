"""Xet over HTTP: tokens from the hub, then xorbs, shards and reconstructions."""

import re
import time

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response

from hubq.embedded_hub.accounts import Visitor
from hubq.embedded_hub.discussions import check_commit
from hubq.embedded_hub.refusals import Refusal, bad_request, forbidden
from hubq.embedded_hub.repositories import Access, Repository, admit
from hubq.embedded_hub.requests import Call, read_body, stream_body
from hubq.embedded_hub.routing import Route
from hubq.embedded_hub.xet import reconstruct
from hubq.embedded_hub.xet_formats import MAX_XORB

LIFETIME = 3600  # seconds that a Xet token is good for
MAX_SHARD = 64 * 1024 * 1024


def write_token(call: Call) -> Response:
    """Give a token for uploads, and for them only, to a visitor who may commit or propose."""
    # The client says None when it will open a pull request with the commit.
    if call.path["revision"] == "None":
        call.check_contribute()
    else:
        check_commit(call, call.path["revision"])
    return _token(call, "write")


def read_token(call: Call) -> Response:
    """Give a token for downloads to a visitor who may download the repo."""
    return _token(call, "read")


async def post_xorb(call: Call) -> Response:
    """Receive a xorb, and keep it if its content hashes to its name."""
    await run_in_threadpool(_authorize, call, "write")
    name = _hash(call)
    with call.hub.xet.receive() as incoming:
        async for chunk in stream_body(call.request, MAX_XORB):
            await run_in_threadpool(incoming.write, chunk)
        inserted = await run_in_threadpool(call.hub.xet.keep, name, incoming)
    return JSONResponse({"was_inserted": inserted})


async def post_shard(call: Call) -> Response:
    """Receive the account of files, and keep them if they are what it claims."""
    repo = await run_in_threadpool(_authorize, call, "write")
    shard = await read_body(call.request, MAX_SHARD)
    sha256s = await run_in_threadpool(call.hub.xet.register, shard)
    await run_in_threadpool(call.hub.repositories.hold, repo.id, sha256s)
    return JSONResponse({"result": 1})


def get_reconstruction(call: Call) -> Response:
    """Tell which chunks make up a file, or the range of it that was asked for."""
    repo = _authorize(call, "read")
    sha256, terms = call.hub.xet.find(_hash(call))
    if not call.hub.repositories.holds(repo.id, sha256):
        raise Refusal(404, "This repo has no file with that Xet hash")

    def address(xorb: str, first: int, last: int) -> str:
        # A xorb may hold chunks of other files, and of other repos, too.
        facts: dict[str, str | int] = {
            "purpose": "xet-xorb",
            "xorb": xorb,
            "first": first,
            "last": last,
        }
        ticket = call.hub.tickets.issue(facts, LIFETIME)
        return f"{_base(call)}/v1/xorbs/default/{xorb}?ticket={ticket}"

    return JSONResponse(reconstruct(call.hub.xet, terms, _wanted(call), address))


def get_xorb(call: Call) -> Response:
    """Send a range of a xorb to whoever got its address from a reconstruction."""
    ticket = call.hub.tickets.read(call.query.get("ticket", ""), "xet-xorb")
    name = _hash(call)
    if ticket["xorb"] != name:
        raise forbidden("This signature is for another xorb")
    first, last = _wanted(call) or (0, None)
    if last is None or not int(ticket["first"]) <= first <= last <= int(ticket["last"]):
        raise forbidden(f"This signature is for bytes={ticket['first']}-{ticket['last']} only")
    return FileResponse(call.hub.xet.path(name), media_type="application/octet-stream")


def _token(call: Call, role: str) -> Response:
    facts = {
        "purpose": f"xet-{role}",
        "repo": call.repo().id,
        "user": call.visitor.name or "",
    }
    token = call.hub.tickets.issue(facts, LIFETIME)
    expires = int(time.time()) + LIFETIME
    headers = {
        "X-Xet-Cas-Url": _base(call),
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(expires),
    }
    # Uploads read the body, downloads the headers.
    return JSONResponse({"casUrl": _base(call), "exp": expires, "accessToken": token}, 200, headers)


def _base(call: Call) -> str:
    """Return the address of the Xet store.

    It names this root: clients remember, for each address, which xorbs they have uploaded.
    """
    return f"{call.base}/xet/{call.hub.series}"


def _authorize(call: Call, role: str) -> Repository:
    """Find the repo of a Xet token, for a visitor who may still do what it was given for."""
    scheme, _, token = call.request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refusal(401, "A Xet token is required")
    if call.path["series"] != call.hub.series:
        raise Refusal(404, "This address belongs to another store")
    facts = call.hub.tickets.read(token, f"xet-{role}")
    visitor = call.hub.accounts.visitor(facts["user"]) if facts["user"] else Visitor()
    repositories = call.hub.repositories
    # Both need it: who may not download a repo proposes nothing to it either.
    return admit(repositories, repositories.by_id(facts["repo"]), visitor, Access.READ)


def _hash(call: Call) -> str:
    name = call.path["hash"]
    if not re.fullmatch(r"[0-9a-f]{64}", name):
        raise bad_request(f"{name!r} is not a hash")
    return name


def _wanted(call: Call) -> tuple[int, int | None] | None:
    value = call.request.headers.get("Range")
    if value is None:
        return None
    match = re.fullmatch(r"bytes=(\d{1,15})-(\d{1,15})?", value)
    if match is None:
        raise forbidden(f"A range like {value!r} is not understood")
    return int(match[1]), int(match[2]) if match[2] else None


ROUTES = (
    Route(
        "GET", "/api/{kind}/{namespace}/{name}/xet-write-token/{revision}", write_token, Access.READ
    ),
    Route(
        "GET", "/api/{kind}/{namespace}/{name}/xet-read-token/{revision}", read_token, Access.READ
    ),
    Route("POST", "/xet/{series}/v1/xorbs/default/{hash}", post_xorb, Access.OPEN),
    Route("GET|HEAD", "/xet/{series}/v1/xorbs/default/{hash}", get_xorb, Access.OPEN),
    Route("POST", "/xet/{series}/v1/shards", post_shard, Access.OPEN),
    Route("GET", "/xet/{series}/v1/reconstructions/{hash}", get_reconstruction, Access.OPEN),
)
