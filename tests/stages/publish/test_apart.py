"""Quantizing and adapting in processes of their own: the same bytes, and their ends told in words.

The first test waits for a process that imports torch and transformers: some seconds.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from forked_workers import workers
from progress_recorder import Recorder

from hubq.cli.bars import Lines
from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import Advance, Progress
from hubq.records.adaptation import Adaptation
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.sources.shards import Weights, write
from hubq.stages.adapt import adapt as adapting
from hubq.stages.plan.plan import plan
from hubq.stages.publish.apart import ApartJob, adapt_apart, quantize_apart
from hubq.stages.publish.apart import run as be_apart
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")


@pytest.fixture
def begin(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Path]:
    """Return a function from a run's name, and another model's folder, to a run with its plan."""
    text = tmp_path / "calibration.txt"
    text.write_text("".join(f"Llama {number} ate {number * 7} leaves.\n" for number in range(90)))

    def planned(name: str, model: Path | None = None, **more: object) -> Path:
        values: dict[str, object] = {
            "name": "tiny",
            "model": {"folder": model or tiny_model("llama")},
            "method": {"name": "awq", "bits": 4, "group_size": 32},
            "calibration": {"dataset": {"file": text}, "samples": 4, "length": 32},
            "publish": {"org": "me"},
        }
        plan(Recipe.model_validate(values | more), tmp_path / name, NOWHERE)
        return tmp_path / name

    return planned


def quantized_apart(run: Path, progress: Progress) -> Checkpoint:
    planned = Plan.load(run / "plan.json")
    return quantize_apart(planned, run, NOWHERE, progress, meanwhile=lambda: None)


def test_a_process_of_its_own_writes_the_same_bytes_and_tells_how_far_it_is(
    begin: Callable[..., Path],
) -> None:
    here, apart, progress = begin("here"), begin("apart"), Recorder()
    expected = quantize(Plan.load(here / "plan.json"), here, NOWHERE)

    checkpoint = quantized_apart(apart, progress)

    assert checkpoint.files == expected.files
    assert Checkpoint.load(apart / "checkpoint.json") == checkpoint
    assert progress.steps["Quantizing"] == progress.totals["Quantizing"] == 8


def test_adapting_in_a_process_of_its_own_writes_the_same_bytes_too(
    begin: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(6)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    lessons = {"dataset": {"file": tmp_path / "pairs.jsonl"}, "held_out": 1}
    adapt = {"name": "qlora", "rank": 2, "steps": 2, "batch_size": 2, **lessons}
    here, progress = begin("here", adapt=adapt), Recorder()
    planned = Plan.load(here / "plan.json")
    checkpoint = quantize(planned, here, NOWHERE)
    apart = Path(shutil.copytree(here, tmp_path / "apart"))
    expected = adapting.adapt(planned, checkpoint, here, NOWHERE)

    adaptation = adapt_apart(planned, checkpoint, apart, NOWHERE, progress)

    assert adaptation.files == expected.files
    assert Adaptation.load(apart / "adapted" / "adaptation.json") == adaptation
    assert progress.steps["Training, 2 steps"] == 2


def test_what_a_user_can_mend_is_the_same_message(
    begin: Callable[..., Path], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(tiny_model("llama"), tmp_path / "broken"))
    weights = Weights(broken)
    tensors = {name: weights.read(name) for name in weights.info}
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    write(broken / "model.safetensors", tensors)

    with pytest.raises(UserError, match=r"^model\.layers\.1\.mlp\.up_proj\.weight holds NaN"):
        quantized_apart(begin("run", broken), Recorder())


def test_a_hub_that_is_away_is_told_apart_from_what_does_not_pass(
    begin: Callable[..., Path],
) -> None:
    run = begin("run", calibration={"dataset": {"hub": "acme/texts"}, "samples": 4, "length": 16})

    (run.parent / "job.json").write_text(ApartJob(stage="quantize", run=run).model_dump_json())
    said = StringIO()

    code = be_apart(run.parent / "job.json", said)  # after three tries: 3 s

    message = json.loads(said.getvalue().splitlines()[-1])
    assert code == 1
    assert message["passes"]
    assert "can't be reached" in message["refused"]


def test_what_the_system_refuses_is_a_message(begin: Callable[..., Path]) -> None:
    run = begin("run")
    (run / "blocks").touch()

    with pytest.raises(UserError, match=r"File exists .*blocks.*Fix this, then run again"):
        quantized_apart(run, Recorder())


class Stopping(Recorder):
    """Do something once the first group of linears is solved."""

    def __init__(self, stop: Callable[[], None]) -> None:
        super().__init__()
        self.stop = stop

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Open a task that is stopped at its second step: the first tells where it goes on."""
        with super().task(title, total) as advance:

            def stopped(steps: int) -> None:
                advance(steps)
                if self.steps[title] > 0:
                    self.stop()

            yield stopped


def kill() -> None:
    """End the workers as the kernel does when memory runs out."""
    for worker in workers():
        worker.kill()


def test_a_process_that_the_kernel_kills_names_the_settings_that_help(
    begin: Callable[..., Path],
) -> None:
    run = begin("run")

    with pytest.raises(UserError, match=r"ran out of memory: .*calibration\.samples \(4\) or"):
        quantized_apart(run, Stopping(kill))

    assert quantized_apart(run, Recorder()).files


def interrupt() -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


def test_ctrl_c_leaves_no_process_behind(begin: Callable[..., Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        quantized_apart(begin("run"), Stopping(interrupt))

    assert workers() == []


def test_what_is_interrupted_is_not_told_to_be_done(
    begin: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Lines):
        """Be interrupted at the first step."""

        @contextmanager
        def task(self, title: str, total: int) -> Iterator[Advance]:
            with super().task(title, total):
                yield lambda _: interrupt()

    with pytest.raises(KeyboardInterrupt):
        quantized_apart(begin("run"), Interrupted())

    assert capsys.readouterr().err == "Quantizing ...\n"
