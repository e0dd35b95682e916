"""`hubq space run` and `hubq space deploy`, as users type them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from faulty_hub import FaultyHub
from made_models import GPTQ, full_report
from made_run import make_run

from hubq.cli import cli
from hubq.client.client import Client
from hubq.stages.publish.space.serve import Place, environment

STARTED = "the Space is at "


def hubq(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=environment)


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `hubq space run` in a process of its own; give it and the address that it says."""
    child = subprocess.Popen(
        [sys.executable, "-m", "hubq", "space", "run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        said = next(line for line in child.stdout if line.startswith(STARTED))
        yield child, said.removeprefix(STARTED).strip()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
        child.communicate()


def test_run_opens_the_models_of_a_folder_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    make_run(tmp_path / "run")

    with running(str(tmp_path / "run")) as (child, address):  # gradio takes seconds to start
        assert "127.0.0.1" in address
        assert httpx.get(address).status_code == 200
        os.killpg(child.pid, signal.SIGINT)
        code = child.wait(timeout=30)

    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name models (run folders or org/name), or an --org"),
        (("--org", "acme", "--host", "0.0.0.0"), "lets other machines connect; add --allow-remote"),
        (("--org", "acme", "--hub", "nowhere"), "nowhere is not an address"),
    ],
)
def test_run_refuses_what_it_should_not_do(arguments: tuple[str, ...], words: str) -> None:
    result = hubq("space", "run", *arguments)

    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_run_says_what_is_missing_without_gradio() -> None:
    code = (
        "import sys; sys.modules['gradio'] = None; "
        "from hubq.cli import main; sys.argv = ['hubq', 'space', 'run', 'a/b']; main()"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr == "gradio is not installed: pip install 'hubq[space]' brings it\n"


def test_the_app_is_told_by_its_environment_what_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    client = Client("http://127.0.0.1:9", token="hf_reader")

    told = environment("acme", ["runs", "acme/b"], Place(port=7999), client)

    assert told["HUBQ_SPACE_ORG"] == "acme"
    assert told["HUBQ_SPACE_MODELS"] == f"{tmp_path / 'runs'}\nacme/b"
    assert told["HF_ENDPOINT"] == "http://127.0.0.1:9"
    assert told["HF_TOKEN"] == "hf_reader"
    assert (told["GRADIO_SERVER_NAME"], told["GRADIO_SERVER_PORT"]) == ("127.0.0.1", "7999")


@pytest.fixture
def logged_in(hub: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> str:
    """Log in at the hub, as HF_TOKEN does, and return its address."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub.endpoint


def test_deploy_prints_where_the_space_is(logged_in: str) -> None:
    first = hubq("space", "deploy", "--org", "acme", "--hub", logged_in)
    second = hubq("space", "deploy", "--org", "acme", "--hub", logged_in)

    assert first.stdout == f"{logged_in}/spaces/acme/compare (cpu-basic)\n"
    assert second.stdout == f"{logged_in}/spaces/acme/compare (cpu-basic): nothing had changed\n"


def test_deploy_speaks_json(logged_in: str) -> None:
    result = hubq(
        "space",
        "deploy",
        "--org",
        "acme",
        "--name",
        "look",
        "--private",
        "--hub",
        logged_in,
        "--json",
    )

    said = json.loads(result.stdout)
    assert (said["repo"], said["private"], said["models"]) == ("acme/look", True, 0)


def test_deploy_says_when_visitors_will_not_see_all(
    logged_in: str, releases: tuple[str, str]
) -> None:
    result = hubq("space", "deploy", "--org", "acme", "--hub", logged_in)

    assert "Some models are private: visitors don't see them." in result.stderr


def test_deploy_gives_the_space_a_token_only_when_told_to(
    logged_in: str, client: Client, releases: tuple[str, str], hub: FaultyHub
) -> None:
    command = ("space", "deploy", "--org", "acme", "--hub", logged_in)
    hubq(*command)
    assert client.api().get_space_secrets("acme/compare") == {}

    result = hubq(*command, "--token-from", "READER", READER=hub.token)

    assert list(client.api().get_space_secrets("acme/compare")) == ["HF_TOKEN"]
    assert "Some models are private" not in result.stderr
    assert hub.token not in result.output


def test_deploy_refuses_an_empty_variable(logged_in: str) -> None:
    result = hubq(
        "space", "deploy", "--org", "acme", "--hub", logged_in, "--token-from", "READER", READER=""
    )

    assert result.exit_code == 1
    assert "the environment variable READER is empty" in result.stderr


def test_a_hubs_private_model_is_shown_locally_with_its_token(
    hub: FaultyHub, releases: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    (tmp_path / "card").mkdir()
    full_report().save(tmp_path / "card" / "report.json")

    with running(str(tmp_path / "card"), "--org", "acme", "--hub", hub.endpoint) as (_, address):
        call = f"{address}gradio_api/call/table"
        event = httpx.post(call, json={"data": []}).json()["event_id"]
        answer = httpx.get(f"{call}/{event}", timeout=30).text

    assert GPTQ in answer
