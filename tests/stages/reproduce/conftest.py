"""What tests of reproducing share: somebody who publishes on a hub of their own."""

from collections.abc import Iterator

import pytest
from faulty_hub import faulty_hub
from made_on_a_hub import Maker

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy


@pytest.fixture(scope="package")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """Somebody with a base and data on a hub, and a cache of their own."""
    folder = tmp_path_factory.mktemp("maker")
    with (
        pytest.MonkeyPatch.context() as patch,
        faulty_hub(folder / "hub", user="ann", org="acme", wait=False) as hub,
    ):
        patch.setenv("HUBQ_CACHE", str(folder / "hubq-cache"))
        maker = Maker(folder, Client(hub.endpoint, hub.token, RetryPolicy(first=0.01)))
        maker.prepare()
        yield maker
