"""git clone and fetch over HTTP, and pushes of what is here already.

A push may let a branch be at a commit that a pull request holds. It brings no objects: they come
through the API, checked.
"""

import gzip
import hashlib
import io
import re
import tempfile
import zlib
from contextlib import ExitStack
from typing import IO

from dulwich.errors import GitProtocolError
from dulwich.graph import can_fast_forward
from dulwich.objects import Commit, ObjectID
from dulwich.protocol import ReceivableProtocol, pkt_line
from dulwich.refs import Ref
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend, UploadPackHandler
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from hubq.embedded_hub.committing import move_ref
from hubq.embedded_hub.refusals import Refusal, bad_request, forbidden
from hubq.embedded_hub.repositories import Access
from hubq.embedded_hub.requests import MAX_BODY, Call
from hubq.embedded_hub.routing import everywhere

# What the library raises for bodies that are not git's, or that want what isn't there.
PUSHED = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) (refs/heads/[^\x00-\x20]{1,250})")
EMPTY = b"PACK" + (2).to_bytes(4) + (0).to_bytes(4)
EMPTY_PACK = EMPTY + hashlib.sha1(EMPTY).digest()
UNSPEAKABLE = (GitProtocolError, ValueError, KeyError, AssertionError)
SPOOL = 16 * 1024 * 1024  # bytes of a pack that are kept in memory
NO_CACHE = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}


def advertise(call: Call) -> Response:
    """List the refs for git."""
    if call.query.get("service") != "git-upload-pack":
        raise forbidden("git can only clone from this hub; write to it with huggingface_hub")
    out = io.BytesIO()
    with call.hub.histories.open(call.repo().id) as git:
        handler = _handler(git, io.BytesIO(), out, advertise=True)
        handler.proto.write_pkt_line(b"# service=git-upload-pack\n")
        handler.proto.write_pkt_line(None)
        handler.handle()
    media_type = "application/x-git-upload-pack-advertisement"
    return Response(out.getvalue(), headers=NO_CACHE, media_type=media_type)


def upload_pack(call: Call) -> Response:
    """Send git the objects that it lacks."""
    asked = io.BytesIO(_unzipped(call))
    with ExitStack() as stack:
        out = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=SPOOL))
        git = stack.enter_context(call.hub.histories.open(call.repo().id))
        try:
            _handler(git, asked, out, advertise=False).handle()
        except UNSPEAKABLE as error:
            raise bad_request("The body is not what git sends") from error
        git.close()
        stack.pop_all()  # the answer closes the file when it is sent
    out.seek(0)
    return StreamingResponse(
        iter(lambda: out.read(64 * 1024), b""),
        headers=NO_CACHE,
        media_type="application/x-git-upload-pack-result",
        background=BackgroundTask(out.close),
    )


def receive_pack(call: Call) -> Response:
    """Let a branch be at a commit that is here, upon the head that the push names, or say why not.

    The Hub takes any push.
    """
    command, pack = _pushed(_unzipped(call))
    old, new, ref = command
    repo = call.repo()
    with call.hub.locks.hold(repo.id), call.hub.histories.open(repo.id) as git:
        refusal = None if pack == EMPTY_PACK else "this hub takes no objects from git"
        refusal = refusal or _why_not(git, *command)
        if refusal is None:
            move_ref(git, ref, old, new)
    said = [
        b"unpack ok",
        b"ok " + ref if refusal is None else b"ng %b %b" % (ref, refusal.encode()),
    ]
    lines = [pkt_line(each + b"\n") for each in said]
    media_type = "application/x-git-receive-pack-result"
    return Response(b"".join([*lines, pkt_line(None)]), headers=NO_CACHE, media_type=media_type)


def _pushed(body: bytes) -> tuple[tuple[ObjectID, ObjectID, Ref], bytes]:
    """Return the head that was, the commit that is to be and the ref, and the pack behind them."""
    stream = io.BytesIO(body)
    protocol = ReceivableProtocol(stream.read, lambda _: None)
    try:
        command, *more = protocol.read_pkt_seq()
        pack = protocol.read(len(body) + 1)
    except UNSPEAKABLE as error:
        raise bad_request("The body is not what git sends") from error
    found = PUSHED.fullmatch(command.partition(b"\0")[0].strip())
    if found is None or more:
        raise bad_request("This hub moves one branch at a time")
    return (ObjectID(found[1]), ObjectID(found[2]), Ref(found[3])), pack


def _why_not(git: Repo, old: ObjectID, new: ObjectID, ref: Ref) -> str | None:
    """Say why a branch can't be at a commit; None: it can."""
    head = git.refs.read_ref(ref)
    if head is None or head != old:
        return "fetch first"
    if new not in git.object_store or not isinstance(git[new], Commit):
        return "the commit is not here"
    return None if can_fast_forward(git, old, new) else "non-fast-forward"


def ask_for_password(call: Call, refusal: Refusal) -> Response:
    """Ask git for a password where a token could help."""
    if refusal.status == 401:
        refusal.headers["WWW-Authenticate"] = 'Basic realm="hub"'
    return refusal.response()


def _handler(
    git: Repo, received: io.BytesIO, out: IO[bytes], *, advertise: bool
) -> UploadPackHandler:
    protocol = ReceivableProtocol(received.read, out.write)
    repos: dict[str, BackendRepo] = {"/": git}
    return UploadPackHandler(
        DictBackend(repos), ["/"], protocol, stateless_rpc=True, advertise_refs=advertise
    )


def _unzipped(call: Call) -> bytes:
    if call.request.headers.get("Content-Encoding") != "gzip":
        return call.body
    try:
        with gzip.open(io.BytesIO(call.body)) as stream:
            body = stream.read(MAX_BODY + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise bad_request("The body is not gzip") from error
    if len(body) > MAX_BODY:
        raise Refusal(413, "The body is too long")
    return body


ROUTES = [
    route
    for suffix in (".git", "")
    for methods, rest, answer, access in (
        ("GET", "/info/refs", advertise, Access.READ),
        ("POST", "/git-upload-pack", upload_pack, Access.READ),
        ("POST", "/git-receive-pack", receive_pack, Access.WRITE),
    )
    for route in everywhere(methods, suffix + rest, answer, access, ask_for_password)
]
