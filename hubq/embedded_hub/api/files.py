"""The files of a revision and the commits behind them: listing, and downloading, in part too."""

import mimetypes
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote

from dulwich.objects import Commit
from dulwich.repo import Repo
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from hubq.embedded_hub.description import timestamp
from hubq.embedded_hub.history import (
    Entry,
    File,
    commit_id,
    describe,
    find_commit,
    find_file,
    last_commits,
    list_entries,
    list_folders,
    read_blob,
    walk_commits,
)
from hubq.embedded_hub.refusals import Refusal, bad_request, check_path, entry_not_found
from hubq.embedded_hub.repositories import Access, Repository
from hubq.embedded_hub.requests import Call, page, window
from hubq.embedded_hub.routing import Route, everywhere
from hubq.embedded_hub.storage import Pointer

PAGE = 1000
EXPANDED_PAGE = 50
MAX_PATHS = 1000

Listed = Entry | str  # a file's entry, or the id of a folder's tree
# What a browser may show in place; all else that a repo holds is text or a download to it.
INLINE = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
SAFE = {
    # An SVG may style itself but not run scripts or load anything.
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


def tree(call: Call) -> Response:
    """List a folder, or with recursive=true all that is below it."""
    folder = call.path.get("path", "").strip("/")
    with call.hub.histories.open(call.repo().id) as git:
        commit = find_commit(git, call.path["revision"])
        everything = _everything(git, commit)
        if folder and not isinstance(everything.get(folder), str):
            raise entry_not_found(
                f'"{folder}" does not exist on "{call.path["revision"]}"', commit_id(commit)
            )
        deep = call.query.get("recursive", "").lower() == "true"
        paths = [path for path in sorted(everything) if _inside(path, folder, deep)]
        expand = call.query.get("expand", "").lower() == "true"
        size = EXPANDED_PAGE if expand else PAGE
        shown = window(call, paths, size=size)
        history = _history(git, commit, everything, shown) if expand else {}
        xet = _xet_hashes(call, git, everything, shown)
        return page(
            call, paths, lambda path: _row(git, path, everything[path], history, xet), size=size
        )


def paths_info(call: Call) -> Response:
    """Describe the paths of the form that exist, files and folders."""
    form = parse_qs(call.body.decode(errors="replace"))
    wanted = form.get("paths", [])
    if call.request.headers.get("Content-Type", "").startswith("application/json"):
        paths = call.json().get("paths", [])
        wanted = [str(path) for path in paths] if isinstance(paths, list) else []
    if len(wanted) > MAX_PATHS:
        raise bad_request(f"At most {MAX_PATHS} paths at once")
    with call.hub.histories.open(call.repo().id) as git:
        commit = find_commit(git, call.path["revision"])
        everything = _everything(git, commit)
        paths = [path.strip("/") for path in wanted if path.strip("/") in everything]
        expand = form.get("expand", ["false"])[0].lower() == "true"
        history = _history(git, commit, everything, paths) if expand else {}
        xet = _xet_hashes(call, git, everything, paths)
        rows = [_row(git, path, everything[path], history, xet) for path in paths]
    return JSONResponse(rows)


def commits(call: Call) -> Response:
    """List the commits of a revision, newest first."""
    with call.hub.histories.open(call.repo().id) as git:
        walk = list(walk_commits(git, find_commit(git, call.path["revision"])))
        return page(call, walk, describe_commit, size=EXPANDED_PAGE)


def describe_commit(commit: Commit) -> dict[str, Any]:
    """Describe a commit as the API does."""
    title, _, message = commit.message.decode(errors="replace").partition("\n\n")
    return {
        "id": commit_id(commit),
        "title": title,
        "message": message,
        "authors": [{"user": author_of(commit), "avatar": ""}],
        "date": timestamp(commit.commit_time),
        "formatted": {"title": title, "message": message},
    }


def author_of(commit: Commit) -> str:
    """Return the name of a commit's author."""
    author: bytes = commit.author
    return author.decode(errors="replace").partition(" <")[0]


def _everything(git: Repo, commit: Commit) -> dict[str, Listed]:
    return {**list_folders(git, commit), **list_entries(git, commit)}


def _inside(path: str, folder: str, deep: bool) -> bool:
    prefix = folder + "/" if folder else ""
    return path.startswith(prefix) and (deep or "/" not in path[len(prefix) :])


def _history(
    git: Repo, head: Commit, everything: Mapping[str, Listed], paths: Sequence[str]
) -> dict[str, Commit]:
    ids = {path: _id(everything[path]) for path in paths}
    return last_commits(git, head, ids)


def _id(listed: Listed) -> str:
    return listed.blob if isinstance(listed, Entry) else listed


def _xet_hashes(
    call: Call, git: Repo, everything: Mapping[str, Listed], paths: Sequence[str]
) -> dict[str, str]:
    files = [(path, everything[path]) for path in paths]
    pointers = [
        describe(git, path, entry).pointer for path, entry in files if isinstance(entry, Entry)
    ]
    return call.hub.xet.hashes_of([pointer.sha256 for pointer in pointers if pointer])


def _row(
    git: Repo, path: str, listed: Listed, history: Mapping[str, Commit], xet: Mapping[str, str]
) -> dict[str, Any]:
    row: dict[str, Any]
    if isinstance(listed, str):
        row = {"type": "directory", "oid": listed, "size": 0, "path": path}
    else:
        row = _file_row(git, path, listed, xet)
    if (last := history.get(path)) is not None:
        described = describe_commit(last)
        row["lastCommit"] = {key: described[key] for key in ("id", "title", "date")}
    return row


def _file_row(git: Repo, path: str, entry: Entry, xet: Mapping[str, str]) -> dict[str, Any]:
    file = describe(git, path, entry)
    row: dict[str, Any] = {"type": "file", "oid": file.blob, "size": file.size, "path": path}
    if file.pointer:
        sha256 = file.pointer.sha256
        row["lfs"] = {"oid": sha256, "size": file.size, "pointerSize": file.stored}
        if sha256 in xet:
            row["xetHash"] = xet[sha256]
    return row


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


ROUTES = (
    Route("GET", "/api/{kind}/{namespace}/{name}/tree/{revision}", tree, Access.KNOW),
    Route("GET", "/api/{kind}/{namespace}/{name}/tree/{revision}/{*path}", tree, Access.KNOW),
    Route("POST", "/api/{kind}/{namespace}/{name}/paths-info/{revision}", paths_info, Access.KNOW),
    Route("GET", "/api/{kind}/{namespace}/{name}/commits/{revision}", commits, Access.KNOW),
    *everywhere("GET|HEAD", "/resolve/{revision}/{*path}", resolve, Access.READ),
)
