"""What programs can ask of the Space, as gradio_client does."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from answering_models import BASE, FOUR, SEEING, SEEING_BASE, THREE, write_family
from served_space import ROOT, served
from slow_workers import halted, slowed, workers

from page.events import PROGRAMS

if TYPE_CHECKING:
    from gradio_client import Client

VISITORS = 8


@pytest.fixture(scope="module")
def client(address: str) -> "Iterator[Client]":
    from gradio_client import Client

    yield (made := Client(address, verbose=False))
    made.close()


def compared(client: "Client", **given: Any) -> list[dict[str, Any]]:
    """Return what came at last."""
    asked = {"models": [THREE, FOUR], "prompt": "What is a llama?", "max_new_tokens": 8} | given
    rows: list[dict[str, Any]] = client.predict(**asked, api_name="/compare")
    return rows


def test_programs_can_ask_for_the_table(client: "Client") -> None:
    rows = client.predict(api_name="/table")

    assert [row["model"] for row in rows] == [SEEING_BASE, SEEING, BASE, THREE, FOUR]
    assert rows[3]["KL divergence"] == 0.031


def test_programs_can_compare(client: "Client") -> None:
    rows = compared(client)

    assert [row["model"] for row in rows] == [THREE, FOUR]
    assert [row["tokens"] for row in rows] == [8, 8]
    assert [row["finished"] for row in rows] == ["length", "length"]
    assert all(row["memory_bytes"] > 10**8 and row["tokens_per_second"] > 0 for row in rows)


def test_the_same_seed_gives_the_same_answers(client: "Client") -> None:
    once, again = (compared(client, temperature=1.0, seed=7) for _ in range(2))

    other = compared(client, temperature=1.0, seed=8)

    assert [row["text"] for row in once] == [row["text"] for row in again]
    assert [row["text"] for row in once] != [row["text"] for row in other]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": "  \n"}, "there is nothing to answer: the prompt is empty"),
        ({"prompt": "x" * 100_000}, "100,000 characters and at most 20,000"),
        ({"models": [THREE]}, "choose 2 to 4 models to compare; 1 is chosen"),
        ({"models": [THREE] * 5}, "choose 2 to 4 models to compare; 5 are chosen"),
        ({"models": [THREE, THREE]}, "choose each model once"),
        ({"temperature": -1.0}, "temperature must be greater than or equal to 0"),
        ({"max_new_tokens": 5000}, "an answer may have at most 512 tokens here, not 5000"),
    ],
)
def test_what_can_not_be_is_said_in_words(
    client: "Client", given: dict[str, Any], words: str
) -> None:
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as refused:
        compared(client, **given)

    assert words in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_a_model_that_is_not_there_takes_no_other_down(client: "Client") -> None:
    gone, there = compared(client, models=["acme/gone", FOUR])

    assert "acme/gone is not here any more" in gone["error"]
    assert (there["tokens"], there["error"]) == (8, None)


def test_a_model_that_dies_half_way_leaves_the_other_and_comes_back(
    client: "Client", runs: Path
) -> None:
    asked = {"models": [THREE, FOUR], "prompt": "What is a llama?", "max_new_tokens": 400}
    compared(client)  # so both are loaded and can be slowed down
    with slowed(runs / "Tiny-Llama-3bit"):
        job = client.submit(**asked, api_name="/compare")
        next(rows for rows in job if rows[0]["text"])
        for process in workers(runs / "Tiny-Llama-3bit"):
            process.kill()

        dead, alive = job.result()

    assert "was killed" in dead["error"]
    assert alive["error"] is None
    assert [row["error"] for row in compared(client)] == [None, None]


def test_eight_visitors_at_once_are_served_in_turn(client: "Client") -> None:
    asked = {"models": [THREE, FOUR], "prompt": "What is a llama?", "max_new_tokens": 30}

    jobs = [client.submit(**asked, api_name="/compare") for _ in range(VISITORS)]

    last = [job.result() for job in jobs]
    assert all(row["tokens"] == 30 and row["error"] is None for rows in last for row in rows)
    seen = [row["place_in_queue"] for job in jobs for rows in job.outputs() for row in rows]
    assert max(place for place in seen if place is not None) > 2


def test_programs_beyond_their_places_are_refused_in_words(client: "Client", runs: Path) -> None:
    from gradio_client.exceptions import AppError

    compared(client)
    asked = {"models": [THREE, FOUR], "prompt": "What is a llama?", "max_new_tokens": 8}

    with halted(runs):  # so that only those are over which are refused
        jobs = [client.submit(**asked, api_name="/compare") for _ in range(PROGRAMS + 2)]
        list(islice(as_completed(job.future for job in jobs), 2))
    refused = [error for job in jobs if (error := job.exception())]

    assert len(refused) == 2
    assert all(isinstance(each, AppError) for each in refused)
    assert all("10 comparisons by programs are running" in str(each) for each in refused)


def test_a_program_that_goes_away_leaves_its_place(client: "Client", runs: Path) -> None:
    compared(client)
    asked = {"models": [THREE, FOUR], "prompt": "What is a llama?", "max_new_tokens": 400}

    with slowed(runs):
        for _ in range(PROGRAMS + 2):
            job = client.submit(**asked, api_name="/compare")
            next(rows for rows in job if rows[0]["place_in_queue"] or rows[0]["text"])
            job.cancel()

    assert [row["error"] for row in compared(client)] == [None, None]


def test_a_model_deleted_while_it_is_chosen_is_said_in_words(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from gradio_client import Client

    write_family(tmp_path, tiny_model("llama"))
    with served({"HUBQ_SPACE_MODELS": str(tmp_path)}) as address:
        client = Client(address, verbose=False)
        client.predict(api_name="/table")
        shutil.rmtree(tmp_path / "Tiny-Llama-3bit")

        gone, there = compared(client)

        client.close()
    assert "is gone since this list was made" in gone["error"]
    assert there["tokens"] == 8


def test_nothing_but_named_endpoints_is_open_to_programs(address: str) -> None:
    described = httpx.get(f"{address}gradio_api/info").json()

    assert sorted(described["named_endpoints"]) == ["/compare", "/table"]
    assert not described["unnamed_endpoints"]


def test_the_page_says_at_once_that_models_are_looked_for(address: str) -> None:
    assert "Looking for the models" in httpx.get(address).text


def test_the_page_is_served(address: str) -> None:
    assert "Compare quantized models" in httpx.get(address).text


def test_the_example_of_the_readme_runs(address: str) -> None:
    text = (ROOT / "space" / "README.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    for written, here in (
        ("your-org/Llama-3-8B-GPTQ-4bit", THREE),
        ("your-org/Llama-3-8B-RTN-4bit", FOUR),
        ("your-org/compare", address),
    ):
        assert written in code
        code = code.replace(written, here)
    seen: dict[str, Any] = {}

    exec(code, seen)

    seen["client"].close()
    assert [row["model"] for row in seen["answers"]] == [THREE, FOUR]
    assert seen["rows"][0].keys() >= {"model", "stored bits", "KL divergence"}
