"""A hub that is started again goes on where it was, in a folder that is its owner's alone."""

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from faulty_hub import FaultyHub, faulty_hub

from hubq.embedded_hub.hub import Hub
from hubq.errors import UserError

CONTENT = bytes(5000)
OID = hashlib.sha256(CONTENT).hexdigest()


def client(hub: FaultyHub) -> httpx.Client:
    headers = {"Authorization": f"Bearer {hub.token}"}
    return httpx.Client(base_url=hub.endpoint, headers=headers)


def begin(http: httpx.Client, transfer: str) -> dict[str, Any]:
    """Make a repo and ask where to upload an object."""
    http.post("/api/repos/create", json={"name": "model"})
    wanted = [{"oid": OID, "size": len(CONTENT)}]
    body = {"operation": "upload", "transfers": [transfer], "objects": wanted}
    answer = http.post("/local/model.git/info/lfs/objects/batch", json=body).json()
    upload: dict[str, Any] = answer["objects"][0]["actions"]["upload"]
    return upload


def path_of(address: str) -> str:
    return httpx.URL(address).path


def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    with faulty_hub(tmp_path) as hub, client(hub) as http:
        href = path_of(begin(http, "basic")["href"])

    with faulty_hub(tmp_path) as hub, client(hub) as http:
        assert http.put(href, content=CONTENT).status_code == 200


def test_an_upload_in_parts_goes_on_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubq.embedded_hub.api.large_files.MULTIPART_FROM", 1000)
    with faulty_hub(tmp_path) as hub, client(hub) as http:
        upload = begin(http, "multipart")
        http.put(path_of(upload["header"]["1"]), content=CONTENT).raise_for_status()

    with faulty_hub(tmp_path) as hub, client(hub) as http:
        done = http.post(path_of(upload["href"]), json={"parts": [{"partNumber": 1}]})

    assert done.status_code == 200
    assert list((tmp_path / "objects" / "parts").glob("*")) == []


def test_a_xet_token_is_good_after_a_restart(tmp_path: Path) -> None:
    with faulty_hub(tmp_path) as hub, client(hub) as http:
        begin(http, "basic")
        token = http.get("/api/models/local/model/xet-read-token/main").json()

    with faulty_hub(tmp_path) as hub, client(hub) as http:
        place = f"{path_of(token['casUrl'])}/v1/reconstructions/{'ab' * 32}"
        answer = http.get(place, headers={"Authorization": f"Bearer {token['accessToken']}"})

    assert answer.json()["error"] == f"There is no file with the Xet hash {'ab' * 32}"


def test_a_ticket_of_another_hub_is_told_to_begin_anew(tmp_path: Path) -> None:
    with faulty_hub(tmp_path / "one") as hub, client(hub) as http:
        href = path_of(begin(http, "basic")["href"])

    with faulty_hub(tmp_path / "two") as hub, client(hub) as http:
        answer = http.put(href, content=CONTENT)

    assert answer.status_code == 403
    assert "Begin the upload or the download anew" in answer.json()["error"]


def test_a_root_that_others_could_enter_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    Hub.open(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_root_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)

    with pytest.raises(UserError, match=re.escape(f"{tmp_path} belongs to another user")):
        Hub.open(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_everybodys_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)

    with pytest.raises(UserError, match="is shared by all users"):
        Hub.open(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
