"""What tests of commands share: a hub that a user has logged in to."""

from pathlib import Path

import pytest
from faulty_hub import FaultyHub


@pytest.fixture
def hub(hub: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> FaultyHub:
    """Give a hub whose token the command line finds as a user's would be found."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each command in a folder of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
