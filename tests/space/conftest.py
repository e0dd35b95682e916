"""A hub with an organization and its published models, for the tests of what looks at them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from answering_models import write_family, write_seeing
from faulty_hub import FaultyHub
from made_models import GPTQ, RTN
from made_run import make_run
from served_space import served
from unloaded import publish

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Start chromium; it takes a second."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: make browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def client(hub: FaultyHub) -> Client:
    return Client(hub.endpoint, hub.token, RetryPolicy(tries=2, first=0.01))


@pytest.fixture
def stranger(hub: FaultyHub) -> Client:
    """Give the client of a visitor without a token."""
    return Client(hub.endpoint, token=None, retries=RetryPolicy(tries=2, first=0.01))


@pytest.fixture
def releases(client: Client, tmp_path: Path) -> tuple[str, str]:
    """Publish two models, the first for everybody, and return their names."""
    for number, repo in enumerate((RTN, GPTQ)):
        run = tmp_path / f"run-{number}"
        publish(make_run(run, repo, private=number == 1, seed=number), run, client)
    return RTN, GPTQ


@pytest.fixture(scope="session")
def runs(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write quantized models that answer, each a run folder: two of one base, and one that sees."""
    folder = tmp_path_factory.mktemp("runs")
    write_family(folder, tiny_model("llama"))
    write_seeing(folder)
    return folder


@pytest.fixture(scope="session")
def address(runs: Path) -> Iterator[str]:
    """Serve the Space over these models, for all tests: it takes seconds to start.

    In float32 their choices are clear; in bfloat16 the likeliest tokens are often exactly equal.
    """
    with served({"HUBQ_SPACE_MODELS": str(runs), "HUBQ_COMPUTE_DTYPE": "float32"}) as place:
        yield place
