"""Whatever is asked, the hub answers: never an error of its own, never a hang."""

import json
import random
import string
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from hubq.embedded_hub.app import SUBJECTS

ROUTES = [route for subject in SUBJECTS for route in subject.ROUTES]
ODD = [
    *("", " ", ".", "..", "../..", "a/b", "/", "//", "\\", "\0", "\n", "%", "%00", "a\r\nb: c"),
    *("-1", "0", "1", "²", "9" * 11, "9" * 30, "1e9", "NaN", "None", "null", "true", "🦙", "ä"),
    *(
        "refs/heads",
        "refs/pr/1",
        "refs/pr/0",
        "HEAD",
        "main/x",
        "0" * 40,
        "abcde",
        "x" * 300,
        "\x7f",
    ),
    *(
        "é" * 200,
        "\ufeff.git",
        "a.lock",
        "@{",
        "<script>",
        "';--",
        "{{7*7}}",
        "${x}",
        "main",
        "~",
        "\x7f",
    ),
]
GOOD = {
    "kind": ["models", "models", "models", "spaces", "datasets"],
    "namespace": ["acme"],
    "name": ["model", "model", "model", "space"],
    "revision": ["main", "refs/pr/1", "HEAD"],
    "*path": ["notes.txt", "a.bin", "d", "README.md"],
    "path": ["notes.txt"],
    "num": ["1", "2"],
    "series": ["series"],
}
RANGES = ["bytes=0-", "bytes=-1", "bytes=5-2", "bytes=-", "bytes=0-0,2-3,1-1", "lines=1-2"]
SIGNS = ["", "Bearer", "Bearer \xff", "Basic", "Basic \xe9", "Basic YTpi", "Bearer a.b"]
HEADERS = {
    "Range": [*RANGES, "bytes=-" + "9" * 18, "bytes=0-9" + ",0-9" * 200, "bytes=" + "9" * 30 + "-"],
    "Content-Type": ["application/json", "application/x-git-upload-pack-request", "x", "\xff"],
    "Content-Encoding": ["gzip", "br"],
    "Accept": ["text/html", "application/json"],
    "Authorization": SIGNS,
    "If-Range": ["x"],
}
BODY: dict[str, list[Any]] = {
    "name": ["new", "model"],
    "organization": ["acme", None],
    "type": ["model", "space"],
    "repository": ["local/copy"],
    "operation": ["upload", "download"],
    "objects": [[{"oid": "ab" * 32, "size": 10}]],
    "files": [[{"path": "x.txt", "size": 3, "sample": "aGk="}], [{"sha256": "ab" * 32}]],
    "target": [{"type": "model", "name": "acme/model"}],
    "item": [{"type": "model", "id": "acme/model"}],
    "title": ["A title"],
    "description": ["Words", None],
    "comment": ["Words"],
    "content": ["---\nlicense: mit\n---\n# Hi\n"],
    "status": ["open", "closed", "accepted"],
    "tag": ["v1", "v2"],
    "message": ["Words", None],
    "startingPoint": ["main"],
    "key": ["A"],
    "value": ["b"],
    "user": ["local"],
    "private": [True, False],
    "gated": ["auto", False],
    "visibility": ["public", "private"],
    "paths": [["notes.txt", "d"]],
    "secrets": [[{"key": "A", "value": "b"}]],
    "variables": [[{"key": "A", "value": "b", "description": "c"}]],
    "sdk": ["static"],
    "flavor": ["cpu-basic"],
    "hardware": ["cpu-basic"],
    "seconds": [300],
    "sleepTimeSeconds": [300, None],
    "position": [0, 1],
    "note": ["Words", None],
    "theme": ["blue"],
    "namespace": ["acme"],
    "deletions": [{"sha": ["ab" * 32]}],
    "transfers": [["basic", "multipart"]],
    "oid": ["ab" * 32],
    "size": [10],
    "parts": [[{"partNumber": 1}]],
    "pullRequest": [True, False],
    "repoType": ["model"],
    "gitIgnore": ["*.log"],
}
WANT = b"0032want " + b"0" * 40 + b"\n0000"
CASES = 120


def pick(dice: random.Random, *others: Any) -> Any:
    return dice.choice([*ODD, *others])


def value(dice: random.Random, depth: int = 0) -> Any:
    """Make something that JSON can hold, or nearly."""
    if dice.random() < 0.03:
        return dice.choice([float("nan"), float("inf"), "\ud800", 2**63, 10**30])
    kinds: list[Any] = [None, True, -1, 2**62, 1.5, 0]
    kinds += [pick(dice), "model", "acme/model", "space", "public", "auto", "ab" * 32, 1, 7]
    if depth < 3:
        kinds += [[value(dice, depth + 1)], [], {}]
        kinds.append({dice.choice([*BODY]): value(dice, depth + 1) for _ in range(3)})
        kinds.append([{"key": "A", "value": value(dice, 3), "path": pick(dice), "size": 1}])
    return dice.choice(kinds)


def body(dice: random.Random) -> bytes:
    """Make a body: JSON, lines of it, or bytes that are neither."""
    if dice.random() < 0.15:
        return dice.choice(
            [
                b"",
                b"null",
                b"[" * 50_000,
                b"[]",
                b"0",
                dice.randbytes(40),
                b"0032want " + b"0" * 40 + b"\n0000",
            ]
        )
    changes = ("header", "file", "lfsFile", "deletedFile", "deletedFolder", "x")
    if dice.random() < 0.3:
        fields = ("path", "content", "encoding", "oid", "size", "summary", "description", "algo")
        header = {"summary": dice.choice(["Words", value(dice)]), "parentCommit": value(dice)}
        lines = [{"key": "header", "value": header if dice.random() < 0.3 else {"summary": "s"}}]
        good = {"path": "x/y.txt", "content": "aGk=", "encoding": "base64"}
        for _ in range(dice.randrange(3)):
            given = {field: value(dice) for field in fields if dice.random() < 0.3}
            given = good | given if dice.random() < 0.7 else given
            lines.append({"key": dice.choice(changes), "value": given})
        return b"\n".join(json.dumps(line).encode() for line in lines)
    given = {
        key: dice.choice(good) if dice.random() < 0.85 else value(dice)
        for key, good in BODY.items()
        if dice.random() < 0.9
    }
    return json.dumps(given).encode()


def address(dice: random.Random, pattern: list[str]) -> str:
    """Fill a route's pattern, mostly with what is there, and add a query."""
    segments = []
    for part in pattern:
        word, brace, suffix = part.removeprefix("{").partition("}")
        known = GOOD.get(word, ["x"])
        chosen = dice.choice(known) if dice.random() < 0.92 else pick(dice)
        segments.append(quote(chosen, safe="") + suffix if brace else part)
    words = ("cursor", "limit", "p", "expand", "recursive", "filter", "search", "author", "ticket")
    query = "&".join(
        f"{word}={quote(pick(dice, 'true'), safe='')}" for word in words if dice.random() < 0.2
    )
    return "/" + "/".join(segments) + (f"?{query}" if query else "")


@pytest.fixture
def filled(api: HfApi, repo: str) -> None:
    """Put something behind the addresses that are asked."""
    api.create_repo("acme/space", repo_type="space", space_sdk="static")
    adds = {"notes.txt": b"hi\n", "a.bin": bytes(3000), "d/README.md": b"# Hi\n"}
    operations = [CommitOperationAdd(path, content) for path, content in adds.items()]
    api.create_commit(repo, operations, commit_message="Add")
    delete = [CommitOperationDelete("notes.txt")]
    api.create_commit(repo, delete, commit_message="Delete", create_pr=True)
    api.create_discussion(repo, "Why?")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("seed", range(3))
def test_no_request_is_an_error_of_the_hub(hub: FaultyHub, http: httpx.Client, seed: int) -> None:
    # Takes 2 s: hundreds of requests.
    dice = random.Random(seed)
    http.timeout = httpx.Timeout(20)
    removals = ("delete", "move", "merge")  # else soon nothing is there to be asked for

    for route in dice.choices(
        [r for r in ROUTES if r.answer.__name__ not in removals], k=CASES * 4
    ):
        method, path = dice.choice(sorted(route.methods)), address(dice, route.pattern)
        headers = {
            name.encode(): dice.choice(values).encode("latin-1")
            for name, values in HEADERS.items()
            if dice.random() < (0.03 if name == "Authorization" else 0.2)
        }
        content = body(dice) if method not in ("GET", "HEAD") else b""

        answer = http.request(method, path, content=content, headers=headers)

        assert answer.status_code < 500, (seed, method, path, headers, content[:300])
        assert "\n" not in answer.headers.get("X-Error-Message", "")
        assert set(answer.headers.get("X-Error-Code", "")) <= set(string.ascii_letters)
    assert http.get("/api/models").status_code == 200
    assert http.get("/").status_code == 200
