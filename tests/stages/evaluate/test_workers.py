"""Workers side by side: each order once, the first that stops ends all, none stays behind.

Most start processes that import torch: some seconds for all of them.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from forked_workers import workers
from made_questions import QUESTIONS, asked, put_rows
from progress_recorder import Recorder

from hubq.client.client import Client
from hubq.errors import PassingError, UserError
from hubq.machine import meters
from hubq.machine.progress import SILENT, Advance
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.stages.evaluate.fork_server import WorkerStart
from hubq.stages.evaluate.jobs import Job, Order
from hubq.stages.evaluate.measure import (
    Machine,
    in_turn,
    measure,
    prepare,
    worker_environment,
)
from hubq.stages.evaluate.measurements.choice import harness_task
from hubq.stages.evaluate.measurements.efficiency import EfficiencyTask
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.measurements.load import LoadTask
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask
from hubq.stages.evaluate.standby import standing_by
from hubq.stages.evaluate.task import Outcome, Task, keep_text
from hubq.stages.evaluate.worker import Share
from hubq.stages.evaluate.workers import carry_out, run, workers_for

TEXT = "The llama went home. It was late, and the road was long. " * 12
OTHER = TEXT.upper()


def environment() -> dict[str, str]:
    """Return what every worker is started with: the same for all is one process to fork from."""
    return worker_environment(False, Client())


def perplexity_of(text: str = TEXT) -> PerplexityTask:
    return PerplexityTask(dataset="text", version="1", text=keep_text(text), length=32, windows=8)


def job_of(folder: Path, place: Path, *tasks: Task) -> Job:
    orders = [Order(task=task, outcome=place / f"{at}.json") for at, task in enumerate(tasks)]
    return Job(folder=folder, device="cpu", dtype="float32", orders=tuple(orders))


@pytest.fixture
def several(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Job:
    put_rows("hubq_openbookqa", [asked(*each) for each in QUESTIONS], monkeypatch)
    hidden = HiddenTask(dataset="text", text=keep_text(TEXT), length=32, windows=4)
    tasks = (LoadTask(), perplexity_of(), perplexity_of(OTHER), hidden)
    questions = harness_task("hubq_openbookqa", seed=0)
    return job_of(tiny_model("llama"), tmp_path, *tasks, questions)


def test_two_workers_measure_what_one_does(several: Job) -> None:
    run(several, 1, environment(), Recorder())
    alone = [Outcome.load(order.outcome).scores for order in several.orders]
    for order in several.orders:
        order.outcome.unlink()
    progress = Recorder()

    run(several, 2, environment(), progress)

    assert [Outcome.load(order.outcome).scores for order in several.orders] == alone
    assert sorted(title for title in progress.titles if title != "load") == [
        "distributions on text",
        "hubq_openbookqa",
        "perplexity on text",
        "perplexity on text",
    ]


def test_what_reads_one_text_goes_to_one_worker(several: Job, tmp_path: Path) -> None:
    first, second = Share(tmp_path), Share(tmp_path)
    _, perplexity, other, hidden, _ = several.orders

    assert first.takes(perplexity)
    assert not second.takes(perplexity)
    assert second.takes(other)
    assert not first.takes(other)
    assert not second.takes(hidden)
    assert first.takes(hidden)


def test_one_thread_is_for_one_worker(several: Job) -> None:
    assert torch.get_num_threads() == 1
    assert workers_for(several) == 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_two_threads_are_for_two_workers_where_there_is_work_for_both(several: Job) -> None:
    alone = several.model_copy(update={"orders": several.orders[:2]})

    with threads(2):
        assert workers_for(several) == 2
        assert workers_for(alone) == 1
        assert workers_for(several.model_copy(update={"device": "cuda"})) == 1


def test_a_model_without_room_beside_itself_gets_one_worker(
    several: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    monkeypatch.setattr(meters, "CGROUP", tmp_path)

    with threads(2):
        assert workers_for(several) == 1


def test_workers_are_forked_from_what_was_prepared(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    job = job_of(tiny_model("llama"), tmp_path, perplexity_of())
    prepared = prepare(EvaluateSection(), Client())
    assert prepared is not None
    prepared.ready()
    nurseries = psutil.Process().children()

    measure(job.folder, [job.orders[0].task], Machine("cpu", "float32"), Client(), Recorder())

    assert psutil.Process().children() == nurseries


def test_what_one_worker_refuses_ends_both(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    refused, tasks = perplexity_of("too short"), (perplexity_of(), perplexity_of(OTHER))

    with pytest.raises(UserError, match="ask for fewer or shorter windows"):
        run(job_of(tiny_model("llama"), tmp_path, refused, *tasks), 2, environment(), Recorder())

    assert workers() == []


class Killing(Recorder):
    """End the workers at the first word, as the kernel does when memory runs out."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        for worker in workers():
            worker.send_signal(signal.SIGKILL)
        with super().task(title, total) as advance:
            yield advance


def test_a_worker_that_is_killed_is_explained_and_the_next_one_works(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    job = job_of(tiny_model("llama"), tmp_path, perplexity_of())

    with pytest.raises(UserError, match="on cpu ran out of memory"):
        run(job, 1, environment(), Killing())
    run(job, 1, environment(), Recorder())

    assert Outcome.load(job.orders[0].outcome).scores


def test_a_forked_worker_has_the_environment_of_its_job(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    job = job_of(tiny_model("llama"), tmp_path, perplexity_of())
    elsewhere = {**environment(), "HUBQ_CACHE": str(tmp_path / "empty")}

    with pytest.raises(RuntimeError, match=r"No such file or directory: .*/empty/texts"):
        run(job, 1, elsewhere, Recorder())
    run(job, 1, environment(), Recorder())

    assert Outcome.load(job.orders[0].outcome).scores


def test_costs_are_measured_in_a_process_that_is_no_fork(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    task = EfficiencyTask(batch=1, prompt=4, output=2, repetitions=1, hardware="", beside="")
    job = job_of(tiny_model("llama"), tmp_path, task)
    seen: list[str] = []

    class Looking(Recorder):
        """Note how the process that speaks was started."""

        @contextmanager
        def task(self, title: str, total: int) -> Iterator[Advance]:
            seen.extend(" ".join(each.cmdline()) for each in psutil.Process().children())
            with super().task(title, total) as advance:
                yield advance

    run(job, 1, environment(), Looking())

    assert any("-m hubq.stages.evaluate.worker" in each for each in seen)


def test_costs_are_measured_in_a_process_that_stood_by_and_no_other_is_left(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    task = EfficiencyTask(batch=1, prompt=4, output=2, repetitions=1, hardware="", beside="")
    job = job_of(tiny_model("llama"), tmp_path, task)
    before = set(psutil.Process().children())

    with standing_by(environment(), 2):
        stood = set(psutil.Process().children()) - before
        run(job, 1, environment(), Recorder())
        left = set(psutil.Process().children()) - before

    assert len(stood) == 2
    assert len(left) == 1
    assert left < stood
    assert set(psutil.Process().children()) == before
    assert Outcome.load(job.orders[0].outcome).cost


def test_a_process_that_cannot_import_what_measures_says_why(tmp_path: Path) -> None:
    (tmp_path / "transformers.py").write_text("raise ImportError('damaged')\n")

    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with (
        pytest.raises(RuntimeError, match="damaged"),
        standing_by({**environment(), "PYTHONPATH": path}, 1),
    ):
        pass


def test_texts_come_first_and_then_the_longest_task(tmp_path: Path) -> None:
    tasks = [harness_task("hubq_piqa", limit=300), harness_task("hubq_bbq"), perplexity_of()]

    orders = in_turn(job_of(tmp_path, tmp_path, *tasks).orders)

    assert [order.task.title for order in orders] == [tasks[at].title for at in (2, 1, 0)]


def test_what_passes_by_itself_is_told_apart_from_other_refusals(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[2])
    start = WorkerStart(
        module="refusing_worker",
        job=tmp_path / "job.json",
        environment={**os.environ, "PYTHONPATH": tests},
    )

    with pytest.raises(PassingError, match=r"^the Hub can't be reached$"):
        carry_out(start, 1, fork=False, progress=SILENT)


def test_a_parent_that_has_read_nothing_may_go() -> None:
    """As hubq does where nothing was left to be measured: closing resets the connection."""
    own, far = socket.socketpair()
    code = (
        "import socket, sys\n"
        "from hubq.stages.evaluate.forking import serve\n"
        "serve(socket.socket(fileno=int(sys.argv[1])), None)\n"
    )
    with far, own:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(far.fileno())],
            pass_fds=[far.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        own.recv(1, socket.MSG_PEEK)  # it is at rest

    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
