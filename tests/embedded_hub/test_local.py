"""A hub for the length of a `with`: found, started, ended, and never two on one root."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import HfApi

import hubq.embedded_hub
from hubq.embedded_hub import default_root, find_running, local_hub, serve
from hubq.embedded_hub.serving import NOTE, Running, write_note
from hubq.errors import UserError

# Each test here that starts a hub takes about a second: a new Python imports the server.


def test_the_user_may_write_to_the_organization(tmp_path: Path) -> None:
    with local_hub(tmp_path, user="ann", org="acme") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.token)

        assert api.create_repo("acme/model").repo_id == "acme/model"
        assert api.whoami()["name"] == "ann"


def test_after_the_context_neither_server_nor_note_nor_token_is_left(tmp_path: Path) -> None:
    with local_hub(tmp_path) as hub:
        assert json.loads((tmp_path / NOTE).read_text())["endpoint"] == hub.endpoint

    assert not (tmp_path / NOTE).exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(hub.endpoint)
    with local_hub(tmp_path) as again:
        headers = {"Authorization": f"Bearer {hub.token}"}
        answer = httpx.get(f"{again.endpoint}/api/whoami-v2", headers=headers)
    assert answer.status_code == 401


def test_a_hub_that_runs_is_used_and_left_running(hub: FaultyHub) -> None:
    with local_hub(hub.root, org="acme") as found:
        assert found.endpoint == hub.endpoint

    assert httpx.get(f"{hub.endpoint}/api/instance").status_code == 200


def test_what_one_hub_kept_the_next_one_has(tmp_path: Path) -> None:
    with local_hub(tmp_path) as hub:
        HfApi(endpoint=hub.endpoint, token=hub.token).create_repo("local/model")

    with local_hub(tmp_path) as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        assert api.model_info("local/model").author == "local"


def test_a_note_about_a_dead_server_is_not_believed(tmp_path: Path) -> None:
    write_note(tmp_path, Running(1, "http://127.0.0.1:9", "gone"))

    assert find_running(tmp_path) is None


def test_a_note_that_leads_to_another_hub_is_not_believed(hub: FaultyHub, tmp_path: Path) -> None:
    write_note(tmp_path, Running(1, hub.endpoint, "another"))

    assert find_running(tmp_path) is None
    assert find_running(hub.root) is not None


def test_a_note_holds_no_secret(hub: FaultyHub) -> None:
    note = json.loads((hub.root / NOTE).read_text())

    assert sorted(note) == ["endpoint", "instance", "pid"]


def test_two_servers_cannot_share_a_root(hub: FaultyHub) -> None:
    with pytest.raises(UserError, match="Another process is serving"):
        serve(hub.root)


def test_a_taken_port_is_said_to_be_taken(hub: FaultyHub, tmp_path: Path) -> None:
    port = int(hub.endpoint.rpartition(":")[2])

    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}"):
        serve(tmp_path, port=port)


def test_a_host_that_others_can_reach_must_be_allowed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loopback only"):
        serve(tmp_path, host="0.0.0.0")


def test_hubs_started_at_the_same_time_become_one(tmp_path: Path) -> None:
    endpoints: list[str] = []
    meet = threading.Barrier(2)

    def use() -> None:
        with local_hub(tmp_path) as hub:
            endpoints.append(hub.endpoint)
            meet.wait(30)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(endpoints)) == 1


def test_a_killed_parent_takes_its_hub_along(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "from hubq.embedded_hub import local_hub\n"
        "with local_hub(pathlib.Path(sys.argv[1])) as hub:\n"
        "    print(hub.endpoint, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        endpoint = parent.stdout.readline().strip()
        os.kill(parent.pid, signal.SIGKILL)

    deadline = time.monotonic() + 10
    while find_running(tmp_path) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(httpx.ConnectError):
        httpx.get(endpoint)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_server_leaves_in_good_order(tmp_path: Path, number: int) -> None:
    script = (
        "import sys, pathlib; from hubq.embedded_hub import serve; serve(pathlib.Path(sys.argv[1]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE, text=True
    ) as server:
        while find_running(tmp_path) is None:
            assert server.poll() is None
            time.sleep(0.05)

        server.send_signal(number)
        _, complaints = server.communicate(timeout=20)

    assert (server.returncode, complaints) == (0, "")
    assert not (tmp_path / NOTE).exists()


def test_what_is_not_installed_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hubq.embedded_hub.find_spec", lambda name: None if name == "lz4" else name)

    with pytest.raises(UserError, match=r"needs lz4\. .*pip install 'hubq\[hub\]'"):
        hubq.embedded_hub.local_hub  # noqa: B018 - the look-up is what fails


def test_importing_the_package_imports_no_server() -> None:
    script = (
        "import sys, hubq.embedded_hub; "
        "print({'starlette', 'uvicorn', 'dulwich'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


def test_the_root_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBQ_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    by_xdg = default_root()
    monkeypatch.setenv("HUBQ_CACHE", "/elsewhere")

    assert (by_xdg, default_root()) == (Path("/somewhere/hubq/hub"), Path("/elsewhere/hub"))


@pytest.mark.usefixtures("transfer")
def test_a_large_file_passes_through_little_memory(tmp_path: Path) -> None:
    # Takes 2 s: 60 MB go up, are hashed, and come down again.
    file = tmp_path / "model.safetensors"
    file.write_bytes(os.urandom(60_000_000))
    with local_hub(tmp_path / "hub") as hub:
        pid = json.loads((tmp_path / "hub" / NOTE).read_text())["pid"]
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        api.create_repo("local/model")

        api.upload_file(path_or_fileobj=file, path_in_repo=file.name, repo_id="local/model")
        api.hf_hub_download("local/model", file.name, local_dir=tmp_path / "down")

        status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    assert int(peak) < 110_000  # kB; it would be 170 000 if the file were held once
    assert (tmp_path / "down" / file.name).read_bytes() == file.read_bytes()
