"""What tests of commands share: a hub that a user has logged in to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_hub import FaultyHub, faulty_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    """Serve a hub whose token the command line finds as a user's would be found."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with faulty_hub(tmp_path / "hub", user="ann", org="acme", wait=False) as running:
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each command in a folder of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
