"""A Hub that says whatever a test wants, over real HTTP: by default what an honest one would."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "acme/tiny"
TOKEN = "hf_" + "Tt0" * 11
WHO = {
    "name": "ann",
    "orgs": [{"name": "acme", "roleInOrg": "write"}],
    "auth": {"accessToken": {"role": "write"}},
}
PAST = {"id": COMMIT, "title": "", "date": "2026-01-01T00:00:00.000Z", "authors": []}


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str  # without the query, decoded
    query: str
    headers: Message
    body: bytes


@dataclass
class Said:
    """An answer: its body in one piece, or in many and without a length."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(
        cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> "Said":
        """Say a value in JSON."""
        return cls(json.dumps(value).encode(), status, dict(headers or {}))


Answers = Callable[[Asked], Said | None]  # None: as an honest Hub would


class HostileHub:
    """Where it is, what it was asked, and what it is to answer."""

    def __init__(self, endpoint: str, files: Mapping[str, bytes]) -> None:
        self.endpoint, self.files = endpoint, files
        self.asked: list[Asked] = []
        self.answers: Answers = lambda asked: None

    def client(self, token: str | None = TOKEN) -> Client:
        """Return a client of this Hub that hardly waits."""
        return Client(self.endpoint, token, RetryPolicy(tries=2, first=0.01))

    def on(self, method: str, path: str, said: "Said | Callable[[Asked], Said]") -> None:
        """Answer the requests that match in this way, all others as before."""
        before = self.answers

        def answers(asked: Asked) -> Said | None:
            if re.fullmatch(method, asked.method) and re.search(path, asked.path):
                return said if isinstance(said, Said) else said(asked)
            return before(asked)

        self.answers = answers

    def answer(self, asked: Asked) -> Said:
        """Answer a request, and remember it."""
        self.asked.append(asked)
        return self.answers(asked) or self.honest(asked)

    def tokens(self) -> list[str]:
        """List the tokens that came."""
        return [
            each.headers["Authorization"] for each in self.asked if each.headers["Authorization"]
        ]

    def entry(self, path: str) -> dict[str, Any]:
        """Return how a listing tells of a file."""
        content = self.files[path]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {"type": "file", "path": path, "size": len(content), "oid": blob}

    def honest(self, asked: Asked) -> Said:
        """Answer as a Hub does that holds one repo."""
        if "/resolve/" in asked.path:
            return self._file(asked.path, asked.headers.get("Range"))
        routes: tuple[tuple[str, Callable[[Asked], object]], ...] = (
            ("/tree/", lambda asked: [self.entry(each) for each in self.files]),
            ("/paths-info/", self._some),
            ("/whoami-v2$", lambda asked: WHO),
            ("/validate-yaml$", lambda asked: {"errors": [], "warnings": []}),
            ("/preupload/", self._modes),
            ("/commit/", lambda asked: self._at("commit")),
            ("/commits/", lambda asked: [PAST]),
            ("/repos/create$", lambda asked: {"url": f"{self.endpoint}/{REPO}"}),
            ("/runtime$|/hardware$", lambda asked: {"stage": "RUNNING", "hardware": {}}),
            ("/variables$|/secrets$", lambda asked: {"A": {"key": "A", "value": "b"}}),
            ("^/api/(models|datasets)$", lambda asked: [self.info()]),
            ("^/api/(models|datasets|spaces)/", lambda asked: self.info()),
        )
        for path, answer in routes:
            if re.search(path, asked.path):
                return Said.json(answer(asked))
        return Said.json({"error": "not found"}, 404)

    def _some(self, asked: Asked) -> object:
        wanted = parse_qs(asked.body.decode())["paths"]
        return [self.entry(each) for each in wanted if each in self.files]

    def _modes(self, asked: Asked) -> object:
        sent = json.loads(asked.body)["files"]
        how = {"uploadMode": "regular", "shouldIgnore": False}
        return {"files": [{"path": each["path"]} | how for each in sent]}

    def _at(self, what: str) -> object:
        return {"commitOid": COMMIT, "commitUrl": f"{self.endpoint}/{REPO}/{what}/{COMMIT}"}

    def info(self) -> dict[str, Any]:
        """Return how it tells of the repo."""
        siblings = [{"rfilename": each} for each in self.files]
        about = {"id": REPO, "sha": COMMIT, "private": True, "gated": False}
        return about | {"siblings": siblings, "cardData": {"license": "mit"}, "tags": []}

    def _file(self, path: str, wanted: str | None) -> Said:
        content = self.files.get(path.partition(f"/resolve/{COMMIT}/")[2])
        headers = {"X-Repo-Commit": COMMIT}
        if content is None:
            return Said.json({}, 404, headers | {"X-Error-Code": "EntryNotFound"})
        headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
        if wanted and (asked := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)):
            first, last = int(asked[1]), int(asked[2] or len(content))
            end = min(last + 1, len(content))
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
            return Said(content[first:end], 206, headers)
        return Said(content, 200, headers)


class _Handler(BaseHTTPRequestHandler):
    """Hands each request to the Hub, and its answer to the client."""

    protocol_version = "HTTP/1.1"
    hub: HostileHub

    def handle_one_request(self) -> None:
        """Serve one request of a connection."""
        try:
            super().handle_one_request()
        except OSError:  # the client had enough
            self.close_connection = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.speak
        raise AttributeError(name)

    def speak(self) -> None:
        """Answer, whatever the method is."""
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = self.hub.answer(Asked(self.command, unquote(path), query, self.headers, body))
        self.send_response(said.status)
        for name, value in said.headers.items():
            self.send_header(name, value)
        if isinstance(said.body, bytes):
            self.send_header("Content-Length", str(len(said.body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            for piece in [said.body] if isinstance(said.body, bytes) else said.body:
                self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def hostile_hub(files: Mapping[str, bytes] | None = None) -> Iterator[HostileHub]:
    """Serve such a Hub on loopback while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = HostileHub(f"http://127.0.0.1:{server.server_port}", files or {"config.json": b"{}"})
    server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
