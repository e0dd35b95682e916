"""A worker takes some seconds to start, so most tests share two of them."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event as Flag
from typing import Any

import hubq_folder
import psutil
import pytest
from slow_workers import halted

from app import best_generation
from hubq.client.client import Client
from serving.generation import Limits, WorkerGeneration
from serving.machine import Memory
from serving.messages import (
    Event,
    Failed,
    Finished,
    Message,
    Model,
    Prompt,
    Queued,
    Request,
    Scores,
    Scoring,
    Settings,
    Token,
)
from serving.model_files import PROCESS, ModelFiles
from serving.worker_process import Worker

TinyModel = Callable[[str], Path]


@pytest.fixture(scope="session")
def base(tiny_model: TinyModel) -> Path:
    return tiny_model("llama")


@pytest.fixture(scope="session")
def side(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the same model at 3 bits."""
    folder = tmp_path_factory.mktemp("side") / "packed"
    hubq_folder.write(base, folder)
    return folder


def generation_with(
    memory: int = 8_000_000_000, at_once: int = 2, waiting: int = 2, silence: float = 60
) -> WorkerGeneration:
    limits = Limits(at_once=at_once, waiting=waiting, input_tokens=400, silence=silence)
    return WorkerGeneration(limits, Memory("machine", memory, lambda: memory), ModelFiles())


@pytest.fixture(scope="module")
def generation() -> Iterator[WorkerGeneration]:
    made = generation_with(waiting=16)
    yield made
    made.close()


@pytest.fixture(scope="module")
def single() -> Iterator[WorkerGeneration]:
    """Give one that answers one at a time."""
    made = generation_with(at_once=1)
    yield made
    made.close()


def request(folder: Path, text: str = "What is a llama?", **settings: Any) -> Request:
    return Request(
        model=Model(folder=folder),
        title="the left model",
        messages=(Message(role="user", content=text),),
        settings=Settings(**{"max_new_tokens": 8} | settings),
    )


def tokens_of(events: list[Event]) -> list[int]:
    return [each.id for each in events if isinstance(each, Token)]


def up_to_token(events: Iterator[Event]) -> list[Event]:
    """Take events up to the first token."""
    taken = []
    for event in events:
        taken.append(event)
        if isinstance(event, Token):
            break
    return taken


def worker_of(generation: WorkerGeneration, folder: Path) -> Worker:
    need = generation._need(request(folder))
    with generation.cache.lend(need, lambda: pytest.fail("it is not loaded")) as worker:
        return worker


def pid_of(generation: WorkerGeneration, folder: Path) -> int:
    return worker_of(generation, folder).pid


def kill(worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    worker._process.wait()


def test_a_picture_is_refused_for_a_model_that_reads_text_alone_before_it_is_loaded(
    base: Path,
) -> None:
    made = generation_with()
    message = Message(role="user", content="What is it?", picture="iVBO")
    asked = request(base).model_copy(update={"messages": (message,)})

    *_, last = made.generate(asked)

    assert last == Failed(
        text="the left model reads text alone: ask it without a picture, or ask a model that sees"
    )
    assert made.cache.keys == []


def test_events_come_in_order(generation: WorkerGeneration, base: Path) -> None:
    list(generation.generate(request(base)))

    kinds = [each.kind for each in generation.generate(request(base, max_new_tokens=3))]

    assert [kind for kind in kinds if kind != "statistics"] == [
        "prompt",
        *["token"] * 3,
        "finished",
    ]
    assert kinds[-2] == "statistics"


# Takes 8 seconds: a process looks which dtype this machine is fast in, and a worker starts.
def test_a_worker_computes_in_the_dtype_that_its_memory_was_reckoned_in(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HUBQ_COMPUTE_DTYPE")
    generation = generation_with()

    list(generation.generate(request(base)))

    told = psutil.Process(pid_of(generation, base)).environ()
    generation.close()
    assert generation.number() == (4 if told["HUBQ_COMPUTE_DTYPE"] == "float32" else 2)


def test_two_models_answer_at_once(generation: WorkerGeneration, base: Path, side: Path) -> None:
    for folder in (base, side):
        list(generation.generate(request(folder)))

    with ThreadPoolExecutor(1) as executor:
        with halted(base):
            waiting = executor.submit(lambda: list(generation.generate(request(base))))
            said = list(generation.generate(request(side)))
            waited = not waiting.done()
        resumed = waiting.result()

    assert waited
    assert tokens_of(said)
    assert tokens_of(resumed)


def test_eight_visitors_with_two_models_each_get_their_answers_in_turn(
    generation: WorkerGeneration, base: Path, side: Path
) -> None:
    expected = {folder: list(generation.generate(request(folder))) for folder in (base, side)}
    orders = [request(folder) for _ in range(8) for folder in (base, side)]

    with ThreadPoolExecutor(len(orders)) as executor:
        told = list(executor.map(lambda each: list(generation.generate(each)), orders))

    assert [tokens_of(each) for each in told] == [
        tokens_of(expected[folder]) for _ in range(8) for folder in (base, side)
    ]
    places = [event.place for each in told for event in each if isinstance(event, Queued)]
    assert max(places) > 8


def test_a_stop_ends_an_answer_and_the_worker_stays(
    generation: WorkerGeneration, base: Path
) -> None:
    list(generation.generate(request(base)))
    pid, stop = pid_of(generation, base), Flag()
    events = generation.generate(request(base, max_new_tokens=400), stop)
    begun = up_to_token(events)

    stop.set()
    rest = list(events)

    assert isinstance(rest[-1], Finished)
    assert rest[-1].reason == "stopped"
    assert len(tokens_of(begun + rest)) < 400
    assert pid_of(generation, base) == pid


def test_an_answer_that_nobody_listens_to_leaves_the_worker_free(
    generation: WorkerGeneration, base: Path
) -> None:
    expected = tokens_of(list(generation.generate(request(base))))
    events = generation.generate(request(base, max_new_tokens=400))
    up_to_token(events)

    events.close()  # type: ignore[attr-defined]

    assert tokens_of(list(generation.generate(request(base)))) == expected


def test_who_waits_learns_the_place_in_line(single: WorkerGeneration, base: Path) -> None:
    running = single.generate(request(base, max_new_tokens=400))
    up_to_token(running)
    second = single.generate(request(base))
    third = single.generate(request(base))

    places = [next(second), next(third)]
    running.close()  # type: ignore[attr-defined]
    told = list(second)
    third.close()  # type: ignore[attr-defined]

    assert places == [Queued(place=1), Queued(place=2)]
    assert isinstance(told[-1], Finished)


def test_a_full_line_is_refused_in_words(single: WorkerGeneration, base: Path) -> None:
    running = single.generate(request(base, max_new_tokens=400))
    up_to_token(running)
    waiting = [single.generate(request(base)) for _ in range(2)]
    for each in waiting:
        next(each)

    told = list(single.generate(request(base)))

    for each in waiting:
        each.close()  # type: ignore[attr-defined]
    running.close()  # type: ignore[attr-defined]
    assert [each.kind for each in told] == ["failed"]
    assert "Try again in a minute" in told[0].text  # type: ignore[union-attr]


def test_a_stop_ends_the_waiting(single: WorkerGeneration, base: Path) -> None:
    stop = Flag()
    running = single.generate(request(base, max_new_tokens=400))
    up_to_token(running)
    waiting = single.generate(request(base), stop)
    next(waiting)

    stop.set()
    told = list(waiting)

    running.close()  # type: ignore[attr-defined]
    assert told == [Finished(reason="stopped")]


def test_a_killed_worker_fails_in_words_and_the_next_gives_the_same_answer_to_a_seed(
    generation: WorkerGeneration, base: Path
) -> None:
    seeded = request(base, temperature=1.0, seed=5)
    expected = tokens_of(list(generation.generate(seeded)))
    pid = pid_of(generation, base)
    events = generation.generate(request(base, max_new_tokens=400))
    up_to_token(events)

    os.kill(pid, signal.SIGKILL)
    rest = list(events)

    assert isinstance(rest[-1], Failed)
    assert "was killed, perhaps because memory ran out" in rest[-1].text
    assert tokens_of(list(generation.generate(seeded))) == expected


def test_a_killed_worker_leaves_the_other_alone(
    generation: WorkerGeneration, base: Path, side: Path
) -> None:
    list(generation.generate(request(base)))
    list(generation.generate(request(side)))
    events = generation.generate(request(side, max_new_tokens=30))
    begun = up_to_token(events)

    kill(worker_of(generation, base))

    assert len(tokens_of(begun + list(events))) == 30


def test_a_worker_that_hangs_is_given_up(base: Path) -> None:
    generation = generation_with(silence=4)  # seconds, since a template's process starts first
    list(generation.generate(request(base)))
    os.kill(pid_of(generation, base), signal.SIGSTOP)

    told = list(generation.generate(request(base)))

    generation.close()
    assert isinstance(told[-1], Failed)
    assert "did not respond for 4 seconds" in told[-1].text


def test_a_damaged_model_fails_in_words_without_its_name(
    generation: WorkerGeneration, base: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "secret-name"))
    (copy / "tokenizer.json").write_text("{")
    (copy / "tokenizer_config.json").write_text("{}")

    told = list(generation.generate(request(copy)))

    assert isinstance(told[-1], Failed)
    assert "the left model" in told[-1].text
    assert "secret-name" not in told[-1].text
    assert "Traceback" not in told[-1].text


def test_a_model_without_its_weights_fails_before_a_process_starts(
    generation: WorkerGeneration, base: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "secret-name"))
    (copy / "model.safetensors").unlink()
    before = generation.cache.keys

    told = list(generation.generate(request(copy)))

    assert isinstance(told[-1], Failed)
    assert "secret-name" not in told[-1].text
    assert generation.cache.keys == before


def test_a_model_that_is_gone_fails_in_words(generation: WorkerGeneration, tmp_path: Path) -> None:
    told = list(generation.generate(request(tmp_path / "gone")))

    assert isinstance(told[-1], Failed)
    assert "missing" in told[-1].text


def test_a_model_that_never_fits_is_refused_in_words(base: Path) -> None:
    generation = generation_with(memory=100_000_000)

    told = list(generation.generate(request(base)))

    assert isinstance(told[-1], Failed)
    assert told[-1].text == ("the left model needs 0.50 GB of memory; this machine has 0.10 GB")


def test_a_model_is_said_to_be_loading_once_and_the_least_recently_used_makes_room(
    base: Path, side: Path
) -> None:
    generation = generation_with(memory=int(1.5 * PROCESS))
    first, second = (list(generation.generate(request(base))) for _ in range(2))
    pid = pid_of(generation, base)

    list(generation.generate(request(side)))

    keys = generation.cache.keys
    generation.close()
    assert [each.text for each in first if each.kind == "loading"] == ["loading the left model"]
    assert [each for each in second if each.kind == "loading"] == []
    assert keys == [Model(folder=side).name]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, "the prompt is empty"),
        (" \n", {}, "the prompt is empty"),
        ("x" * 100_000, {}, "have 100,000 characters and at most 20,000 are read here"),
        ("x" * 500, {}, "tokens and at most 400 are read here"),
        ("Hi", {"max_new_tokens": 5000}, "an answer may have at most 512 tokens here, not 5000"),
    ],
)
def test_what_is_too_much_or_nothing_is_refused_in_words(
    generation: WorkerGeneration, base: Path, text: str, settings: dict[str, Any], message: str
) -> None:
    told = list(generation.generate(request(base, text, **settings)))

    assert isinstance(told[-1], Failed)
    assert message in told[-1].text


def test_an_answer_is_scored_by_another_model(
    generation: WorkerGeneration, base: Path, side: Path, tmp_path: Path
) -> None:
    told = list(generation.generate(request(base)))
    prompt = next(each for each in told if isinstance(each, Prompt))
    order = Scoring(
        model=Model(folder=base),
        title="the base",
        messages=(),
        text="",
        vocabulary=prompt.vocabulary,
        prompt=prompt.ids,
        answer=tuple(tokens_of(told)),
        keep=tmp_path / "kept.npy",
    )
    of_side = {"model": Model(folder=side), "keep": None, "against": order.keep}

    ours = list(generation.score(order))
    theirs = list(generation.score(order.model_copy(update=of_side)))

    assert isinstance(ours[-1], Scores)
    assert isinstance(theirs[-1], Scores)
    assert [each.kl for each in ours[-1].tokens] == [None] * 8
    assert all(each.kl and each.kl > 0 for each in theirs[-1].tokens)


def test_workers_are_the_way_where_no_zerogpu_is() -> None:
    assert isinstance(best_generation(Limits(), Client()), WorkerGeneration)
