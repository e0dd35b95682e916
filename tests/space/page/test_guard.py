"""What strangers can't do to a Space: store files, come by another name, or fill its log."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from made_models import GPTQ, RTN
from made_run import make_run
from served_space import served

from hubq.client.credentials import LOOPBACK
from page.guard import MOST_WITH_PICTURE, own_names

JUNK: list[Any] = [
    *(None, 0, -1, 1e308, True, "NaN", "../../x", "x" * 1000, [], {}, [[[]]], [None], [{}]),
    {"__type__": "update"},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    ["no/model", "neither/this"],
]
BODIES = [
    *(b"", b"{", b"[]", b"null", b"[" * 9999, b"\xff\xfe", b'{"data": {"a": 1}, "fn_index": 0}'),
    *(b'{"data": [], "fn_index": "x"}', b'{"data": [1], "fn_index": 99999, "session_hash": "q"}'),
    *(b'{"data": [], "fn_index": 0, "session_hash": 7}', b'{"data": []}'),
]
PLACES = ["queue/join", "run/table", "call/compare", "call/nothing", "api/table", "call/v2/compare"]


class Space(NamedTuple):
    """A Space that runs, and what it says."""

    http: httpx.Client
    log: Path


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    """Serve the Space over two reports; it takes seconds to start."""
    folder = tmp_path_factory.mktemp("guarded")
    for name, repo in (("rtn", RTN), ("gptq", GPTQ)):
        make_run(folder / "runs" / name, repo)
    log = folder / "log.txt"
    with (
        served({"HUBQ_SPACE_MODELS": str(folder / "runs")}, log=log) as address,
        httpx.Client(base_url=f"{address.rstrip('/')}/", timeout=60) as http,
    ):
        yield Space(http, log)


@pytest.mark.parametrize(
    "path", ["upload", "upload/", "stream/x", "component_server", "process_recording", "vibe-edit"]
)
def test_no_file_is_taken_from_strangers(path: str, space: Space) -> None:
    answer = space.http.post(f"gradio_api/{path}", files={"files": ("notes.txt", b"anything")})

    assert answer.status_code == 404
    assert "takes no files" in answer.json()["detail"]


def test_no_state_of_a_visitor_is_written_to_the_disk(space: Space) -> None:
    assert space.http.get("gradio_api/deep_link", params={"session_hash": "s"}).status_code == 404


def test_a_long_request_is_refused_whatever_it_announces(space: Space) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(2 * MOST_WITH_PICTURE // 65536):
            yield b"x" * 65536

    for content in (b"x" * (MOST_WITH_PICTURE + 1), endless()):
        assert space.http.post("gradio_api/queue/join", content=content).status_code == 413


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example"])
def test_a_page_under_another_name_can_not_ask_this_machine(host: str, space: Space) -> None:
    assert space.http.get("", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:7860", "[::1]:7860"])
def test_this_machines_own_names_are_answered(host: str, space: Space) -> None:
    assert space.http.get("", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("environment", "hosts"),
    [
        ({}, LOOPBACK),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, ()),
        ({"SPACE_ID": "acme/compare"}, ()),
    ],
)
def test_names_are_checked_where_only_this_machine_may_ask(
    environment: dict[str, str], hosts: tuple[str, ...]
) -> None:
    assert own_names(environment) == hosts


def test_junk_is_refused_in_words_and_leaves_no_traceback(space: Space) -> None:
    draw = random.Random(0)
    functions = space.http.get("config").json()["dependencies"]
    statuses = [ask(space, each, draw) for each in functions for _ in range(12)]
    for place in PLACES:
        for body in BODIES:
            answer = space.http.post(f"gradio_api/{place}", content=body)
            statuses.append(answer.status_code)
            assert answer.json()["detail"]

    assert set(statuses) <= {200, 404, 422}
    assert statuses.count(422) > 200
    assert "Traceback" not in space.log.read_text(encoding="utf-8")


def ask(space: Space, function: dict[str, Any], draw: random.Random) -> int:
    """Ask a function of the page for anything, wait for its answer and return the status."""
    count = len(function["inputs"]) + draw.choice([0, 0, 0, -1, 1])
    session = f"session-{draw.random()}"
    asked = {
        "data": [draw.choice(JUNK) for _ in range(max(0, count))],
        "fn_index": function["id"],
        "session_hash": session,
        "event_data": draw.choice(JUNK),
    }
    status = space.http.post("gradio_api/queue/join", content=json.dumps(asked)).status_code
    if status == 200:
        where = {"session_hash": session}
        with space.http.stream("GET", "gradio_api/queue/data", params=where) as answer:
            assert any("process_completed" in line for line in answer.iter_lines())
    return status


def test_programs_are_still_answered(space: Space) -> None:
    event = space.http.post("gradio_api/call/table", json={"data": []}).json()["event_id"]

    answer = space.http.get(f"gradio_api/call/table/{event}").text

    assert RTN in answer
    assert "event: complete" in answer
