"""A server with a data set in it: as much of the Hub as reading one takes."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import parse_qs, unquote

from hubq.client.client import Client

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class DataHub(BaseHTTPRequestHandler):
    """As much of the Hub as reading a data set takes."""

    files: Mapping[str, bytes]
    card: Mapping[str, object]  # the metadata of its README.md
    asked: list[str]
    parts = True  # of files are given where they are asked for
    sent: ClassVar[list[int]] = []  # bytes of each answer

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        """Tell the size of the files that are asked for."""
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        sizes = {path: len(self.files[path]) for path in asked["paths"]}
        told = [
            {"type": "file", "path": path, "oid": COMMIT, "size": size}
            for path, size in sizes.items()
        ]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def answer(self, *, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        self.asked.append(path)
        content = self.content(path)
        if content and self.parts and (wanted := self.headers.get("Range")):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            content = content[int(first) : int(last) + 1] if first else content[-int(last) :]
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hash(content)}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content:
            self.wfile.write(content)
            self.sent.append(len(content))

    def content(self, path: str) -> bytes | None:
        if path.startswith("/api/datasets/"):
            siblings = [{"rfilename": name} for name in self.files]
            told = {"id": "any/any", "sha": COMMIT, "siblings": siblings, "cardData": self.card}
            return json.dumps(told).encode()
        return self.files.get(path.partition(f"/resolve/{COMMIT}/")[2])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def data_hub(
    files: Mapping[str, bytes], card: Mapping[str, object] = MappingProxyType({})
) -> Iterator[tuple[Client, list[str]]]:
    """Serve one data set under any name; give a client of it, and the paths that were asked for."""
    asked: list[str] = []
    of_this = {"files": files, "card": dict(card), "asked": asked}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (DataHub,), of_this))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield Client(endpoint=f"http://127.0.0.1:{server.server_port}"), asked
    finally:
        server.shutdown()
        server.server_close()
