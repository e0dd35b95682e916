"""A release made again from its own repo, over HTTP: the same bytes, or how far apart."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_hub import faulty_hub
from made_on_a_hub import GPTQ, RTN, Maker

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.records.reproduction import Reproduction
from hubq.stages.reproduce.reproduce import Asked, reproduce

NOTHING = Asked()


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """Somebody with a base and data on a hub, which all tests share."""
    folder = tmp_path_factory.mktemp("maker")
    with (
        pytest.MonkeyPatch.context() as patch,
        faulty_hub(folder / "hub", user="ann", org="acme", wait=False) as hub,
    ):
        patch.setenv("HUBQ_CACHE", str(folder / "hubq-cache"))
        maker = Maker(folder, Client(hub.endpoint, hub.token, RetryPolicy(first=0.01)))
        maker.prepare()
        yield maker


def again(maker: Maker, repo: str, run: Path, asked: Asked = NOTHING) -> Reproduction:
    return reproduce(repo, run, maker.client, asked)


@pytest.mark.parametrize("method", [RTN, GPTQ], ids=["rtn", "gptq"])
def test_a_release_made_again_has_the_same_bytes(
    maker: Maker, method: dict[str, object], tmp_path: Path
) -> None:
    published = maker.published(maker.recipe(method), str(method["name"]))

    found = again(maker, published.repo, tmp_path / "again")

    assert found.verdict == "same bytes"
    assert (found.files_apart, found.remarks) == ((), ())
    assert found.commit == published.commit
