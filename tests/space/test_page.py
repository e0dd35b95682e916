"""What the page is made of: in a process of its own, as Gradio leaves sockets and loops open."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from served_space import ROOT

from page.events import STREAMS, WAITING

MADE = """
import json
import gradio as gr
from app import build, comparison_service
from votes.storage import open_votes
from hubq.client.client import Client

service = comparison_service()
page = build(service, open_votes({}, Client()))
opening = [each for each in page.fns.values() if (page._id, "load") in each.targets]
limits = service.generation.limits
print(json.dumps({
    "lifetimes": [x.time_to_live for x in page.blocks.values() if isinstance(x, gr.State)],
    "at once": [each.concurrency_limit for each in opening],
    "answers": limits.waiting + limits.at_once,
}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Build the page, which takes some seconds."""
    cache = str(tmp_path_factory.mktemp("cache"))
    done = subprocess.run(
        [sys.executable, "-c", MADE],
        cwd=ROOT / "space",
        env={**os.environ, "PYTHONPATH": str(ROOT), "HUBQ_CACHE": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_is_kept_of_a_visitor_for_ever(made: dict[str, Any]) -> None:
    lifetimes = made["lifetimes"]

    assert lifetimes
    assert max(lifetimes) < float("inf")


def test_who_is_too_much_is_told_by_the_line_before_gradio_would_let_them_wait(
    made: dict[str, Any],
) -> None:
    assert WAITING < made["answers"] < STREAMS


def test_nobody_waits_for_a_page_that_another_opens(made: dict[str, Any]) -> None:
    assert made["at once"] == [None]
