import socket
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from faulty_hub import FaultyHub, faulty_hub, refuse

from hubq.cli.diagnosis import Diagnosis, ask, diagnose, loadable
from hubq.client.client import Client
from hubq.formats import formats
from hubq.machine import meters
from hubq.machine.device import fast_on_cpu


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    with faulty_hub(tmp_path_factory.mktemp("hub"), user="ann") as running:
        yield running


@pytest.fixture
def silent() -> Iterator[str]:
    """Serve at an address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nonsense() -> Iterator[str]:
    """Serve something that is no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"220 mail at your service\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_good_token_is_named_by_its_user_and_never_shown(hub: FaultyHub) -> None:
    found = diagnose(Client(hub.endpoint, hub.token))

    assert (found.reachable, found.user, found.token) == (True, "ann", "valid, belongs to ann")
    assert hub.token not in found.model_dump_json()


def test_a_bad_token_is_called_refused(hub: FaultyHub) -> None:
    answer = ask(Client(hub.endpoint, "hf_" + "x" * 34))

    assert answer.reachable
    assert answer.token.startswith("refused")


def test_no_token_says_how_to_get_one(hub: FaultyHub) -> None:
    answer = ask(Client(hub.endpoint))

    assert answer.reachable
    assert answer.token.startswith(f"none: set both HF_ENDPOINT={hub.endpoint} and HF_TOKEN")


def test_without_a_network_the_rest_is_still_told() -> None:
    found = diagnose(Client("http://127.0.0.1:9", "hf_" + "x" * 34))

    assert not found.reachable
    assert found.hub_says.startswith("not reachable")
    assert found.libraries["torch"] != "not installed"


def test_a_hub_that_never_answers_is_not_waited_for(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubq.cli.diagnosis.PATIENCE", 0.1)

    answer = ask(Client(silent, "hf_" + "x" * 34))

    assert not answer.reachable


def test_something_that_is_no_hub_is_not_reachable(nonsense: str) -> None:
    assert not ask(Client(nonsense, "hf_" + "x" * 34)).reachable


def test_an_address_that_is_none_is_not_reachable() -> None:
    assert not ask(Client("no address", "hf_" + "x" * 34)).reachable


def test_an_ailing_hub_is_quoted(hub: FaultyHub) -> None:
    hub.faults.add(refuse("GET", "whoami", 503))

    answer = ask(Client(hub.endpoint, hub.token))

    assert answer.says == "answers with status 503: is it a Hub?"


def test_offline_mode_is_named(hub: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    answer = ask(Client(hub.endpoint, hub.token))

    assert answer.says == "not checked: HF_HUB_OFFLINE is set"


def test_every_format_is_judged() -> None:
    assert loadable().keys() == set(formats())


def test_the_default_format_loads_here() -> None:
    assert loadable()["compressed-tensors"] == "yes"


@pytest.mark.skipif(find_spec("gptqmodel") is not None, reason="gptqmodel is installed")
def test_a_format_whose_packages_are_missing_says_what_to_install() -> None:
    found = loadable()["gptq"]

    assert found.startswith("needs gptqmodel")
    assert found.endswith("pip install 'hubq[gptq]'")


def test_a_diagnosis_is_a_record(tmp_path: Path) -> None:
    found = diagnose(Client("http://127.0.0.1:9"))

    found.save(tmp_path / "diagnosis.json")

    assert Diagnosis.load(tmp_path / "diagnosis.json") == found


def test_the_memory_is_what_a_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    monkeypatch.setattr(meters, "CGROUP", tmp_path)

    assert diagnose(Client("http://127.0.0.1:9")).memory == 1_000_000


def test_the_machine_is_measured() -> None:
    found = diagnose(Client("http://127.0.0.1:9"))

    assert found.cores >= 1
    assert found.memory > 0
    assert found.cache_free > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_dtype_that_models_run_in_is_told_with_its_reason(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_COMPUTE_DTYPE", dtype)

    found = diagnose(Client("http://127.0.0.1:9"))

    assert (found.compute_dtype, found.compute_reason) == (dtype, "HUBQ_COMPUTE_DTYPE asks for it")


@pytest.mark.skipif(torch.cuda.is_available(), reason="what a CPU is fast in")
def test_what_was_measured_of_a_cpu_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBQ_COMPUTE_DTYPE")

    found = diagnose(Client("http://127.0.0.1:9"))

    assert found.compute_dtype == fast_on_cpu().dtype
    assert "times as long as in float32 on this CPU" in found.compute_reason


def test_a_wish_for_no_dtype_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBQ_COMPUTE_DTYPE", "fp8")

    found = diagnose(Client("http://127.0.0.1:9"))

    assert found.compute_dtype == "none"
    assert "set it to bfloat16, float16 or float32" in found.compute_reason
    assert found.cores >= 1
