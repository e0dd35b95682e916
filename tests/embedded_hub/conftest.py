"""A hub of its own for each test, real clients for it, and git's opinion at the end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faulty_hub import FaultyHub, faulty_hub

from hubq.embedded_hub import add_user, fsck, mint_token

if TYPE_CHECKING:
    import httpx
    from huggingface_hub import HfApi

Repo = Callable[..., str]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FaultyHub]:
    root = tmp_path / "hub"
    with faulty_hub(root, org="acme", wait=False) as running:
        yield running
    fsck(root)


@pytest.fixture
def api(hub: FaultyHub) -> "HfApi":
    """Give a client that may write to the organization."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def stranger(hub: FaultyHub) -> "HfApi":
    """Give a client of a user who is no member."""
    from huggingface_hub import HfApi

    add_user(hub.root, "eve")
    token = mint_token(hub.root, user="eve", role="write", expires_in=60)
    return HfApi(endpoint=hub.endpoint, token=token)


@pytest.fixture
def nobody(hub: FaultyHub) -> "HfApi":
    """Give a client without a token."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.fixture
def http(hub: FaultyHub) -> "Iterator[httpx.Client]":
    """Give a bare HTTP client with the writer's token, for what the real client never sends."""
    import httpx

    headers = {"Authorization": f"Bearer {hub.token}"}
    with httpx.Client(base_url=hub.endpoint, headers=headers) as client:
        yield client


@pytest.fixture
def repo(api: "HfApi") -> str:
    """Make an empty model of the organization."""
    return api.create_repo("acme/model").repo_id


@pytest.fixture(params=["xet", "lfs"])
def transfer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Send large files in each of the two ways."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", request.param == "lfs")
    return str(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass what the real client does wrong itself: it uploads with a deprecated argument."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"))
