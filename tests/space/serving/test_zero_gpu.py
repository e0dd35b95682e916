import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag

import pytest

from app import best_generation
from hubq.client.client import Client
from serving.generation import InProcessGeneration, Limits, seconds
from serving.machine import Memory
from serving.messages import Failed, Finished, Message, Model, Request, Settings, Token
from serving.model_files import PROCESS, ModelFiles

TinyModel = Callable[[str], Path]
# Stands in for the package of ZeroGPU: it marks what it is given.
SPACES = """
decorated = []

def GPU(task, duration):
    decorated.append((task.__name__, duration))
    def handler(*arguments):
        yield from task(*arguments)
    return handler
"""


@pytest.fixture(scope="session")
def base(tiny_model: TinyModel) -> Path:
    return tiny_model("llama")


@pytest.fixture
def generation() -> InProcessGeneration:
    return generation_with(8_000_000_000)


def generation_with(memory: int) -> InProcessGeneration:
    return InProcessGeneration(Limits(), Memory("machine", memory, lambda: memory), ModelFiles())


def request(folder: Path, most: int = 8) -> Request:
    return Request(
        model=Model(folder=folder),
        title="the left model",
        messages=(Message(role="user", content="What is a llama?"),),
        settings=Settings(max_new_tokens=most),
    )


@pytest.fixture
def spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "spaces.py").write_text(SPACES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("spaces", None)


def test_events_come_in_order(generation: InProcessGeneration, base: Path) -> None:
    kinds = [each.kind for each in generation.generate(request(base, 3))]

    assert [kind for kind in kinds if kind != "statistics"] == [
        "loading",
        "prompt",
        *["token"] * 3,
        "finished",
    ]


def test_a_stop_ends_an_answer(generation: InProcessGeneration, base: Path) -> None:
    stop, told = Flag(), []

    for event in generation.generate(request(base, 200), stop):
        told.append(event)
        if isinstance(event, Token):
            stop.set()

    assert told[-1] == Finished(reason="stopped")
    assert len([each for each in told if isinstance(each, Token)]) == 1


def test_the_least_recently_used_model_makes_room(tiny_model: TinyModel, base: Path) -> None:
    generation = generation_with(int(1.5 * PROCESS))
    list(generation.generate(request(base)))

    list(generation.generate(request(tiny_model("mistral"))))

    assert list(generation._models) == [tiny_model("mistral")]


def test_a_model_that_cannot_be_loaded_fails_in_words(
    generation: InProcessGeneration, tmp_path: Path
) -> None:
    told = list(generation.generate(request(tmp_path / "gone")))

    assert isinstance(told[-1], Failed)
    assert "missing" in told[-1].text


@pytest.mark.usefixtures("spaces")
def test_the_work_is_decorated_where_the_package_is(base: Path) -> None:
    generation = generation_with(8_000_000_000)

    told = list(generation.generate(request(base, 2)))

    import spaces

    assert spaces.decorated == [("_run_on_device", seconds)]
    assert isinstance(told[-1], Finished)


def test_a_short_answer_asks_for_little_of_a_visitors_time_on_the_gpu(base: Path) -> None:
    short, long = (seconds(request(base, most), base) for most in (16, 512))

    assert 10 < short < 20
    assert 40 < long < 60


def test_zerogpu_gets_the_way_without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")

    assert isinstance(best_generation(Limits(), Client()), InProcessGeneration)
