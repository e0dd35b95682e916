from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import hubq_folder
import pytest
from faulty_hub import FaultyHub, faulty_hub
from huggingface_hub import HfApi

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.errors import UserError
from serving.generation import Limits, WorkerGeneration
from serving.machine import Memory
from serving.messages import Finished, Message, Model, Request
from serving.model_files import ModelFiles, estimate_memory

TinyModel = Callable[[str], Path]
BASE, SIDE = Model(repo="acme/base"), Model(repo="acme/side")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's


@pytest.fixture(scope="module")
def hub(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    """Serve a hub with a base, which has another format beside it, and a quantized sibling."""
    root = tmp_path_factory.mktemp("hub")
    hubq_folder.write(tiny_model("llama"), root / "side")
    with faulty_hub(root / "hub", user="ann", org="acme") as running:
        api = HfApi(endpoint=running.endpoint, token=running.token)
        for model, folder in ((BASE, tiny_model("llama")), (SIDE, root / "side")):
            api.create_repo(model.name)
            api.upload_folder(repo_id=model.name, folder_path=folder)
        api.upload_file(
            repo_id=BASE.name, path_or_fileobj=b"x" * 100, path_in_repo="original/weights.pth"
        )
        yield running


@pytest.fixture
def files(hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFiles:
    """Give one with an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return ModelFiles(Client(hub.endpoint, hub.token, RetryPolicy(first=0.01)))


@pytest.mark.parametrize("model", [BASE, SIDE])
def test_a_repo_weighs_what_its_files_do(files: ModelFiles, model: Model) -> None:
    remote = files.outline(model)

    local = files.outline(Model(folder=files.folder(model)))

    assert estimate_memory(remote.config, remote.tensors, 10, 10, 2) == estimate_memory(
        local.config, local.tensors, 10, 10, 2
    )


def test_an_outline_needs_no_weights(files: ModelFiles, tmp_path: Path) -> None:
    files.outline(SIDE)

    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_base_comes_without_its_other_formats(files: ModelFiles) -> None:
    folder = files.folder(BASE)

    assert (folder / "model.safetensors").is_file()
    assert not (folder / "original").exists()


def test_what_is_here_is_not_asked_for_again(hub: FaultyHub, files: ModelFiles) -> None:
    folder = files.folder(SIDE)
    hub.faults.clear()

    assert files.folder(SIDE) == folder
    assert hub.faults.requests() == []


def test_a_repo_that_is_not_there_is_refused_in_words(files: ModelFiles) -> None:
    with pytest.raises(UserError, match="shows no repo acme/gone"):
        files.folder(Model(repo="acme/gone"))


def test_a_model_that_never_fits_is_not_fetched(files: ModelFiles, tmp_path: Path) -> None:
    generation = WorkerGeneration(Limits(), Memory("machine", 1000, lambda: 1000), files)
    asked = Request(model=SIDE, title="Left", messages=(Message(role="user", content="Hi"),))

    told = list(generation.generate(asked))

    assert [each.kind for each in told] == ["loading", "failed"]
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_the_name_of_a_repo_stays_hidden_behind_the_title(files: ModelFiles) -> None:
    generation = WorkerGeneration(Limits(), Memory("machine", 1000, lambda: 1000), files)
    gone = Model(repo="acme/gone")
    asked = Request(model=gone, title="Left", messages=(Message(role="user", content="Hi"),))

    told = list(generation.generate(asked))

    assert "Left" in told[-1].text  # type: ignore[union-attr]
    assert "gone" not in told[-1].text  # type: ignore[union-attr]


def test_a_stopped_order_fetches_nothing(files: ModelFiles) -> None:
    generation = WorkerGeneration(Limits(), Memory("machine", 10**10, lambda: 10**10), files)
    stop, said = Event(), Message(role="user", content="Hi")
    stop.set()

    asked = Request(model=SIDE, title="it", messages=(said,))

    *_, last = generation.generate(asked, stop)

    assert last == Finished(reason="stopped")
    assert files.known_folder(SIDE) is None
