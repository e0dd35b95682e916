import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from made_models import BASE, full_report
from served_space import served

NAMES = ("acme/Llama-AWQ-4bit", "acme/Llama-GPTQ-4bit")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the Space over two reports; it takes seconds to start."""
    folder = tmp_path_factory.mktemp("cards")
    for number, name in enumerate(NAMES):
        (folder / f"{number}").mkdir()
        full_report(name).save(folder / f"{number}" / "report.json")
    with served({"HUBQ_SPACE_MODELS": str(folder)}) as address:
        yield address


def asked(page: str, endpoint: str) -> Any:
    """Call an endpoint as gradio_client does: one request to start it, one for what came out."""
    event = httpx.post(f"{page}gradio_api/call/{endpoint}", json={"data": []}).json()["event_id"]
    answer = httpx.get(f"{page}gradio_api/call/{endpoint}/{event}", timeout=30).text
    lines = answer.splitlines()
    assert lines[0] == "event: complete", answer
    return json.loads(lines[1].removeprefix("data: "))


def test_programs_can_ask_for_the_table(page: str) -> None:
    (rows,) = asked(page, "table")

    assert [row["model"] for row in rows] == [BASE, *NAMES]
    assert rows[1]["KL divergence"] == 0.031


def test_nothing_but_named_endpoints_is_open_to_programs(page: str) -> None:
    described = httpx.get(f"{page}gradio_api/info").json()

    assert list(described["named_endpoints"]) == ["/table"]
    assert not described["unnamed_endpoints"]


def test_the_page_is_served(page: str) -> None:
    assert "Compare quantized models" in httpx.get(page).text
