"""Downloading files: the whole, a range, or just the headers."""

import mimetypes
import re
from urllib.parse import quote

from starlette.responses import FileResponse, PlainTextResponse, Response

from hubq.embedded_hub.history import File, commit_id, find_commit, find_file, read_blob
from hubq.embedded_hub.refusals import Refusal, check_path
from hubq.embedded_hub.repositories import Access, Repository
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.routing import everywhere
from hubq.embedded_hub.storage import Pointer

# What a browser may show in place; all else that a repo holds is text or a download to it.
INLINE = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
SAFE = {
    # An SVG may style itself but not run scripts or load anything.
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


def resolve(call: Call) -> Response:
    """Send a file, with the headers by which the client knows its commit, id and size.

    Large files are sent from here and not by a redirect: a client follows one to the same host
    on HEAD too, and would miss the headers of this answer.
    """
    repo = call.repo()
    with call.hub.histories.open(repo.id) as git:
        commit = find_commit(git, call.path["revision"])
        file = find_file(git, commit, check_path(call.path["path"]))
        headers = _headers(file, commit_id(commit))
        if file.pointer:
            return _large(call, repo, file.pointer, headers)
        content = read_blob(git, file.blob)
    return _small(call, content, headers)


def _headers(file: File, commit: str) -> dict[str, str]:
    guess = mimetypes.guess_type(file.path)[0] or ""
    text = "application/octet-stream" if file.pointer else "text/plain; charset=utf-8"
    name = quote(file.path.rpartition("/")[2])
    return {
        **SAFE,
        "X-Repo-Commit": commit,
        "ETag": f'"{file.pointer.sha256 if file.pointer else file.blob}"',
        "Accept-Ranges": "bytes",
        "Content-Type": guess if guess in INLINE else text,
        "Content-Disposition": f"inline; filename*=UTF-8''{name}",
    }


def _large(call: Call, repo: Repository, pointer: Pointer, headers: dict[str, str]) -> Response:
    if pointer.sha256 not in call.hub.repositories.holdings(repo):
        raise Refusal(404, "The large file behind this pointer was never uploaded")
    headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(pointer.size)}
    if (xet := call.hub.xet.hash_of(pointer.sha256)) is not None:
        token = f"{call.base}/api/{repo.kind}s/{repo.full_name}/xet-read-token"
        headers["X-Xet-Hash"] = xet
        headers["Link"] = f'<{token}/{headers["X-Repo-Commit"]}>; rel="xet-auth"'
    return FileResponse(call.hub.objects.path(pointer.sha256), headers=headers)


def _small(call: Call, content: bytes, headers: dict[str, str]) -> Response:
    """Send bytes, or the range of them that was asked for; other requests get the whole."""
    wanted = _RANGE.fullmatch(call.request.headers.get("Range", ""))
    if wanted is None or wanted[0] == "bytes=-":
        return _answer(call, content, headers, 200)
    first, last = wanted[1], wanted[2]
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= end:
        headers = {"Content-Range": f"bytes */{len(content)}"}
        return PlainTextResponse("No such range", 416, headers)
    headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
    return _answer(call, content[start:end], headers, 206)


def _answer(call: Call, content: bytes, headers: dict[str, str], status: int) -> Response:
    if call.request.method == "HEAD":
        return Response(None, status, {**headers, "Content-Length": str(len(content))})
    return Response(content, status, headers)


ROUTES = everywhere("GET|HEAD", "/resolve/{revision}/{*path}", resolve, Access.READ)
