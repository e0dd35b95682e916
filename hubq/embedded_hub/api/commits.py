"""Committing: first how each file shall come, and whether a card is valid, then all at once."""

import base64
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from dulwich.repo import Repo
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.committing import (
    MAX_REGULAR,
    Change,
    Message,
    UploadModes,
    apply_changes,
    check_parent,
    commit_changes,
    put_blob,
    write_commit,
)
from hubq.embedded_hub.discussions import (
    Discussions,
    check_commit,
    open_pull_request,
    opens_pull_request,
)
from hubq.embedded_hub.history import branch_ref, commit_id, describe, find_commit, list_entries
from hubq.embedded_hub.hub import check_room
from hubq.embedded_hub.refusals import (
    Refusal,
    bad_request,
    check_path,
    forbidden,
    revision_not_found,
)
from hubq.embedded_hub.repositories import Access, Repository
from hubq.embedded_hub.requests import Call, stream_body
from hubq.embedded_hub.routing import Route
from hubq.embedded_hub.storage import Pointer
from hubq.records.card_rules import validate
from hubq.records.parsing import read_json

MAX_FILES = 1000  # a call of preupload
MAX_COMMIT = 1024**3  # bytes of a commit's body, which is spooled to disk
MAX_LINE = 4 * MAX_REGULAR // 3 + 64 * 1024  # of a file in base64, its path and what is around
MAX_RULE = 2000  # bytes of a line of .gitattributes; git ignores longer ones, and fsck complains
MAX_CHANGES = 50_000  # of one commit
TOO_LARGE = "{} is over 10 MiB: upload it as a large file"
SPOOL = 4 * 1024 * 1024


def preupload(call: Call) -> Response:
    """Say for each file whether it is large, ignored, or here already."""
    repo = call.repo()
    check_commit(call, call.path["revision"])
    files = call.rows("files")
    if len(files) > MAX_FILES:
        raise forbidden(f"At most {MAX_FILES} files at once")
    with call.hub.histories.open(repo.id) as git:
        entries = list_entries(git, find_commit(git, call.path["revision"]))
        modes = UploadModes(git, entries, call.optional_text("gitIgnore"))
        answers = []
        for file in files:
            path = check_path(str(file.get("path")))
            size, sample = _size(file), _decode(str(file.get("sample") or ""))
            answer: dict[str, Any] = {
                "path": path,
                "uploadMode": "lfs" if modes.large(path, size, sample) else "regular",
                "shouldIgnore": modes.ignored(path),
            }
            if path in entries:
                known = describe(git, path, entries[path])
                answer["oid"] = known.pointer.sha256 if known.pointer else known.blob
            answers.append(answer)
    return JSONResponse({"files": answers})


async def commit(call: Call) -> Response:
    """Commit the changes of an NDJSON body: a header, then one change a line."""
    await run_in_threadpool(check_commit, call, call.path["revision"])
    with tempfile.SpooledTemporaryFile(max_size=SPOOL) as body:
        async for chunk in stream_body(call.request, MAX_COMMIT):
            body.write(chunk)
        body.seek(0)
        return await run_in_threadpool(_commit, call, call.repo(), body)


def _commit(call: Call, repo: Repository, body: IO[bytes]) -> Response:
    lines = _parse(body)
    message, parent = _header(call, next(lines, ("", {})))
    answer: dict[str, Any] = {"success": True}
    check_room(call.hub, repo, 0)  # what came by Xet counts when it is there
    with call.hub.histories.open(repo.id) as git:
        changes = [_change(call, repo, git, key, value) for key, value in _bounded(lines)]
        with call.hub.locks.hold(repo.id):
            revision = call.path["revision"]
            if opens_pull_request(call):
                base = find_commit(git, revision)
                check_parent(base, parent)
                files = apply_changes(list_entries(git, base), changes)
                made = write_commit(git, files, [base.id], message)
                number = open_pull_request(call.hub, repo, git, message, (base, made))
                answer["pullRequestUrl"] = f"{call.base}/{repo.address}/discussions/{number}"
            else:
                ref = branch_ref(revision)
                if git.refs.read_ref(ref) is None:
                    raise revision_not_found(revision)
                made = commit_changes(git, ref, changes, message, parent)
                Discussions(call.hub.database).note_commit(repo, revision, made)
    oid = commit_id(made)
    answer |= {"commitOid": oid, "commitUrl": f"{call.base}/{repo.address}/commit/{oid}"}
    return JSONResponse(answer)


def _header(call: Call, line: tuple[str, dict[str, Any]]) -> tuple[Message, str | None]:
    """Read who commits what and on top of which commit."""
    key, header = line
    if key != "header" or not str(header.get("summary") or "").strip():
        raise bad_request("A commit starts with a header that has a summary")
    message = Message(call.user(), str(header["summary"]), str(header.get("description") or ""))
    if "\0" in message.summary + message.description:
        raise bad_request("The message of a commit may not contain zero bytes")
    parent = header.get("parentCommit")
    return message, None if parent is None else str(parent)


def _parse(body: IO[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    while line := body.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise Refusal(413, TOO_LARGE.format("A file"))
        if not line.strip():
            continue
        try:
            item: Any = read_json(line)
            yield str(item["key"]), dict(item["value"])
        except (ValueError, KeyError, TypeError) as error:
            raise bad_request("A line of the commit is not a JSON object {key, value}") from error


def _bounded(lines: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines):
        if number == MAX_CHANGES:
            raise bad_request(
                f"A commit may have at most {MAX_CHANGES} changes: split it into several"
            )
        yield line


def _change(call: Call, repo: Repository, git: Repo, key: str, value: dict[str, Any]) -> Change:
    named = value.get("path")
    if not isinstance(named, str):
        raise bad_request("A change of a commit names no path")
    path = check_path(named.removesuffix("/" if key == "deletedFolder" else ""))
    if key == "file":
        return Change(path, put_blob(git, _regular(call, repo, path, value)))
    if key == "lfsFile":
        return Change(path, put_blob(git, _large(call, repo, path, value).encode()))
    if key in ("deletedFile", "deletedFolder"):
        return Change(path, None, folder=key == "deletedFolder")
    raise bad_request(f"A commit has no operation {key!r}")


def _regular(call: Call, repo: Repository, path: str, value: dict[str, Any]) -> bytes:
    content = str(value.get("content") or "")
    raw = _decode(content) if value.get("encoding") == "base64" else content.encode()
    if len(raw) > MAX_REGULAR:
        raise bad_request(TOO_LARGE.format(repr(path)))
    # Else a pointer written by hand would open another repo's files to its author.
    if (pointer := Pointer.decode(raw)) is not None:
        size = _check_held(call, repo, pointer.sha256)
        if size != pointer.size:
            raise bad_request(f"{path!r} has {size} bytes, not {pointer.size}")
    if path == "README.md":
        _check_card(raw, repo)
    if path.rpartition("/")[2] == ".gitattributes" and _has_endless_line(raw):
        raise bad_request(f"{path!r} has a line of over {MAX_RULE} bytes, which git refuses")
    return raw


def _has_endless_line(attributes: bytes) -> bool:
    return any(len(line) > MAX_RULE for line in attributes.split(b"\n"))


def _check_card(raw: bytes, repo: Repository) -> None:
    """Refuse a card with invalid metadata, as the check before a commit does."""
    verdict = validate(raw.decode(errors="replace"), repo.kind)
    if verdict.errors:
        said = "".join(f"\n- {message}" for message in verdict.errors)
        raise bad_request(f"Invalid metadata in README.md:{said}")


def _large(call: Call, repo: Repository, path: str, value: dict[str, Any]) -> Pointer:
    oid = str(value.get("oid"))
    if value.get("algo", "sha256") != "sha256" or len(oid) != 64:
        raise bad_request(f"{oid!r} is not a sha256")
    size = _check_held(call, repo, oid)
    if value.get("size") not in (None, size):
        raise bad_request(f"{path!r} has {size} bytes, not {value['size']}")
    return Pointer(oid, size)


def _check_held(call: Call, repo: Repository, sha256: str) -> int:
    """Return the size of a large file of this repo, or refuse one that was never uploaded."""
    size = call.hub.objects.size(sha256) if _is_hex(sha256) else None
    if size is None or sha256 not in call.hub.repositories.holdings(repo):
        raise bad_request(f"LFS pointer pointed to a file that does not exist: {sha256}")
    return size


def _is_hex(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _size(file: dict[str, Any]) -> int:
    if not isinstance(size := file.get("size"), int):
        raise bad_request("A file's 'size' must be a number")
    return size


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # of which binascii's own error is a kind
        raise bad_request("Content that claims to be base64 is not") from error


def validate_yaml(call: Call) -> Response:
    """Say what is wrong with a README.md; 400 when it must not be committed so."""
    verdict = validate(call.text("content"), call.text("repoType", "model"))
    answer = {
        "errors": [{"message": message} for message in verdict.errors],
        "warnings": [{"message": message} for message in verdict.warnings],
    }
    return JSONResponse(answer, 400 if verdict.errors else 200)


ROUTES = (
    Route("POST", "/api/{kind}/{namespace}/{name}/preupload/{revision}", preupload, Access.READ),
    Route("POST", "/api/{kind}/{namespace}/{name}/commit/{revision}", commit, Access.READ),
    Route("POST", "/api/validate-yaml", validate_yaml, Access.NO_REPO),
)
