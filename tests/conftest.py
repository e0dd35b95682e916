"""What tests share: tiny random models of each family, an own cache, no outer network."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pretend_device  # noqa: F401 - before any test runs a backward
import pytest
from tiny_models import save_tiny_model
from tiny_vision import save_tiny_vision_model

if TYPE_CHECKING:
    import torch
    from faulty_hub import FaultyHub
    from pretend_nvml import PretendNvml

    from hubq.client.client import Client

# Last: a library that a script of ours is called like, such as evaluate, comes first.
sys.path.append(str(Path(__file__).parents[1] / "bench"))
# huggingface_hub reads these at import; nothing may reach the user's login, cache or network.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hubq-tests-hf-")
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody listens there
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.pop("HF_TOKEN", None)
# Several tests run at once. On one thread one process measures a model, whatever the machine.
os.environ["OMP_NUM_THREADS"] = "1"
# The same on every CPU, whatever it is fast in; HUBQ_COMPUTE_DTYPE=float32 tests all in the other.
os.environ.setdefault("HUBQ_COMPUTE_DTYPE", "bfloat16")
# A shell lets what it runs in the background ignore Ctrl-C, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Files that take longest are begun first: none is then left for one process alone at the end.
LONGEST = (
    *("test_browser.py", "test_generation.py", "test_devices.py", "test_memory_needed.py"),
    *("test_evaluate.py", "test_hub_tasks.py", "test_several.py", "test_efficiency.py"),
    *("test_workers.py", "test_app.py", "test_complete.py", "test_deploy.py", "test_two_files.py"),
    *("test_assess.py", "test_fuzzed_hub.py", "test_clients.py", "test_cli.py", "test_docs.py"),
    *("test_quantize.py", "test_gpu_checks.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files in front."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache folder of its own."""
    folder = tmp_path / "hubq-cache"
    monkeypatch.setenv("HUBQ_CACHE", str(folder))
    return folder


@pytest.fixture
def nothing_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no engine have been tried, whatever `make engines` found last."""
    monkeypatch.setattr("hubq.stages.lint.serving.FILE", tmp_path / "none.json")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a name in TINY to the folder of that model; read it, never write."""
    root = tmp_path_factory.mktemp("tiny")

    def folder_of(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            save_tiny_model(name, folder)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def tiny_vision_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from an architecture that sees to a folder; read it, never write."""
    root = tmp_path_factory.mktemp("tiny-vision")

    def folder_of(architecture: str) -> Path:
        folder = root / architecture
        if not folder.exists():
            save_tiny_vision_model(architecture, folder)
        return folder

    return folder_of


@pytest.fixture(params=["pretend", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> "Iterator[torch.device]":
    """Give a device that isn't the CPU: a pretend one, and a GPU where there is one."""
    import torch
    from pretend_device import pretending

    if request.param == "pretend":
        with pretending() as pretended:
            yield pretended
    elif torch.cuda.is_available():
        yield torch.device("cuda")
    else:
        pytest.skip("needs a CUDA device")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> "PretendNvml":
    """Give a driver whose GPUs a test names, in the place of nvidia-ml-py's module."""
    from pretend_nvml import PretendNvml

    driver = PretendNvml()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return driver


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[FaultyHub]":
    """Serve an empty hub with a user and an organization, whose requests can be made to fail.

    The client's cache is empty too.
    """
    from faulty_hub import faulty_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with faulty_hub(tmp_path / "hub", user="ann", org="acme", wait=False) as running:
        yield running


@pytest.fixture
def client(hub: "FaultyHub") -> "Client":
    """Give the user's client of that hub, which tries again soon."""
    from hubq.client.client import Client
    from hubq.client.retries import RetryPolicy

    return Client(hub.endpoint, hub.token, RetryPolicy(first=0.01))
