"""Which way requests go where the environment names a proxy."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from faulty_hub import FaultyHub
from hostile_hub import REPO, HostileHub, hostile_hub
from made_run import REPO as RELEASED
from made_run import make_run
from unloaded import publish

from hubq.client.border import make_client
from hubq.client.client import Client
from hubq.client.credentials import go_direct_to_loopback, proxy_of
from hubq.client.pull import pull
from hubq.client.retries import RetryPolicy
from hubq.errors import UserError

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without any proxy, and with connections that nobody opened before."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    Client().api()
    huggingface_hub.set_client_factory(make_client)
    yield
    huggingface_hub.set_client_factory(make_client)


@pytest.mark.parametrize("address", ["127.0.0.1:8123", "localhost", "[::1]:80", "127.8.8.8"])
def test_this_machine_is_not_behind_a_proxy(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", NOBODY)

    assert proxy_of(f"http://{address}/api") is None


@pytest.mark.parametrize(
    ("name", "value", "proxy"),
    [
        ("HTTPS_PROXY", "http://proxy:3128", "http://proxy:3128"),
        ("https_proxy", "proxy:3128", "http://proxy:3128"),
        ("ALL_PROXY", "http://proxy:3128", "http://proxy:3128"),
        ("HTTP_PROXY", "http://proxy:3128", None),
        ("NO_PROXY", "*", None),
    ],
)
def test_a_hub_is_reached_as_the_environment_says(
    name: str, value: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    assert proxy_of("https://hub.example/api") == proxy


def test_a_host_of_no_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", NOBODY)
    monkeypatch.setenv("NO_PROXY", "hub.example")

    assert proxy_of("https://hub.example/api") is None


@pytest.mark.parametrize("kind", ["socks", "socks5", "socks5h"])
def test_a_socks_proxy_without_its_package_is_a_sentence_with_the_way_out(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{kind}://127.0.0.1:9")
    monkeypatch.setattr("hubq.client.credentials.find_spec", lambda name: None)

    with pytest.raises(UserError, match="pip install socksio"):
        pull(REPO, None, Client("http://hub.example", None, RetryPolicy(tries=1)))


def test_a_proxy_of_an_unknown_kind_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://proxy")

    with pytest.raises(UserError, match="a gopher proxy"):
        pull(REPO, None, Client("http://hub.example", None, RetryPolicy(tries=1)))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with hostile_hub() as running:
        yield running


def test_a_hub_on_loopback_is_reached_although_a_proxy_is_named(
    hub: HostileHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")

    place = pull(REPO, None, hub.client())

    assert (place / "config.json").read_bytes() == b"{}"


def test_another_hub_is_asked_through_the_proxy(
    hub: HostileHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", hub.endpoint)

    with pytest.raises(UserError):
        pull(REPO, None, Client("http://hub.example", "hf_x", RetryPolicy(tries=1)))

    assert hub.asked[0].path == f"http://hub.example/api/models/{REPO}"


def test_what_is_known_to_go_directly_stays_known() -> None:
    environment = {"NO_PROXY": "hub.example, localhost"}

    go_direct_to_loopback(environment)

    assert environment["NO_PROXY"] == environment["no_proxy"]
    assert environment["NO_PROXY"] == "hub.example,localhost,127.0.0.1,::1"


def test_a_download_through_xet_goes_directly_too(
    hub: HostileHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes seconds: what hf_xet reads of the environment it reads once in a process."""
    from faulty_hub import faulty_hub

    with faulty_hub(tmp_path / "hub", user="ann", org="acme") as running:
        publish(make_run(tmp_path / "run"), tmp_path / "run", _client(running))
        monkeypatch.setenv("HTTP_PROXY", NOBODY)
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        running.faults.clear()

        command = [sys.executable, "-m", "hubq", "pull", RELEASED, str(tmp_path / "to")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)

        assert ended.returncode == 0, ended.stderr
        assert 200 in running.faults.requests("GET", "/xet/.*/reconstructions/")


def _client(hub: FaultyHub) -> Client:
    return Client(hub.endpoint, hub.token)
