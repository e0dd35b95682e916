"""What strangers send is bounded before it is held: lines, bodies, xorbs, files to compare."""

import hashlib
import io
import random
import tracemalloc
from collections.abc import Iterator

import httpx
import lz4.frame
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, HfApi

from hubq.embedded_hub.markdown import render
from hubq.embedded_hub.refusals import Refusal
from hubq.embedded_hub.xet_formats import LZ4, MAX_CHUNK, scan_xorb

MEGABYTE = 1_000_000


@pytest.fixture
def peak() -> Iterator[None]:
    """Fail when the test, with the hub that runs in its process, takes 64 MB of memory."""
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 64 * MEGABYTE


@pytest.mark.usefixtures("peak")
def test_a_line_without_end_takes_little_memory(http: httpx.Client, repo: str) -> None:
    # Takes 1 s: 100 MB go over loopback.
    def body() -> Iterator[bytes]:
        yield b'{"key": "header", "value": {"summary": "s"}}\n'
        yield b'{"key": "file", "value": {"content": "'
        for _ in range(100):
            yield b"A" * MEGABYTE

    answer = http.post(f"/api/models/{repo}/commit/main", content=body())

    assert answer.status_code == 413
    assert "upload it as a large file" in answer.json()["error"]


@pytest.mark.parametrize("body", [b"[" + b"{}," * 800_000 + b"{}]", b'{"a": [' + b"1," * 999_999])
@pytest.mark.usefixtures("peak")
def test_a_body_of_endless_values_takes_little_memory(
    http: httpx.Client, repo: str, body: bytes
) -> None:
    answer = http.post(f"/api/models/{repo}/preupload/main", content=body)

    assert answer.status_code == 400
    assert "more than 500000 values" in answer.json()["error"]


def test_a_commit_of_endless_changes_is_refused(
    http: httpx.Client, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubq.embedded_hub.api.commits.MAX_CHANGES", 3)
    header = b'{"key": "header", "value": {"summary": "s"}}\n'
    line = b'{"key": "deletedFile", "value": {"path": "a"}}\n'

    answer = http.post(f"/api/models/{repo}/commit/main", content=header + line * 4)

    assert (answer.status_code, "at most 3 changes" in answer.json()["error"]) == (400, True)


def test_a_xorb_that_unpacks_to_gigabytes_is_refused() -> None:
    packed = lz4.frame.compress(bytes(MAX_CHUNK))
    sizes = len(packed).to_bytes(3, "little"), MAX_CHUNK.to_bytes(3, "little")
    chunk = b"\0" + sizes[0] + bytes([LZ4]) + sizes[1] + packed

    with pytest.raises(Refusal, match="The xorb holds over"):
        scan_xorb(io.BytesIO(chunk * 600))


def test_large_files_are_named_and_not_compared(api: HfApi, http: httpx.Client, repo: str) -> None:
    dice = random.Random(1)
    for number in range(2):
        lines = "".join(f"{dice.randrange(50)}\n" for _ in range(400_000)).encode()
        adds = [CommitOperationAdd("a.txt", lines), CommitOperationAdd("b.txt", b"%d\n" % number)]
        api.create_commit(repo, adds, commit_message="Add")

    page = http.get(f"/{repo}/commit/main", timeout=5).text

    assert "a.txt: from" in page
    assert "+1" in page


def test_a_card_of_endless_pictures_is_shown_soon() -> None:
    html = render("<picture>\n" * 10_000, "acme/model")

    assert "<picture>" not in html


def test_many_parts_are_not_listed_at_once(http: httpx.Client, repo: str, hub: FaultyHub) -> None:
    oid = hashlib.sha256(b"").hexdigest()
    wanted = [{"oid": oid, "size": 300 * 10**9}] * 100
    body = {"operation": "upload", "transfers": ["multipart"], "objects": wanted}

    answer = http.post(f"/{repo}.git/info/lfs/objects/batch", json=body)

    assert (answer.status_code, "name fewer" in answer.json()["error"]) == (400, True)
