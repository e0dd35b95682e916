"""git clone and fetch over HTTP. Pushing is refused: commits come through the API, checked."""

import gzip
import io
import tempfile
import zlib
from contextlib import ExitStack
from typing import IO

from dulwich.errors import GitProtocolError
from dulwich.protocol import ReceivableProtocol
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend, UploadPackHandler
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from hubq.embedded_hub.refusals import Refusal, bad_request, forbidden
from hubq.embedded_hub.repositories import Access
from hubq.embedded_hub.requests import MAX_BODY, Call
from hubq.embedded_hub.routing import everywhere

# What the library raises for bodies that are not git's, or that want what isn't there.
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
    """Refuse a push."""
    raise forbidden("git can only clone from this hub; write to it with huggingface_hub")


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
    for methods, rest, answer in (
        ("GET", "/info/refs", advertise),
        ("POST", "/git-upload-pack", upload_pack),
        ("POST", "/git-receive-pack", receive_pack),
    )
    for route in everywhere(methods, suffix + rest, answer, Access.READ, ask_for_password)
]
