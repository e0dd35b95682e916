"""What is kept while blocks are quantized, and where a run goes on that was killed."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path
from threading import Event

import pytest
import torch
from progress_recorder import Recorder
from tiny_models import save_tiny_model
from torch import Tensor

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import Advance
from hubq.records.plan import Plan
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.resuming import VARIABLE, Keeper, States, where_it_goes_on
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
ALWAYS, LAST = "0", "1e9"  # seconds between states that are kept
BLOCKS = 3


class Killed(Exception):  # noqa: N818 - what happens, not what is wrong
    """The end of a run that is not finished."""


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Path]:
    """Return a function from the names of a run and of a method to a run folder with its plan."""
    model, text = tmp_path / "model", tmp_path / "calibration.txt"
    save_tiny_model("llama", model, num_hidden_layers=BLOCKS)
    text.write_text("".join(f"Llama {number} ate {number * 7} leaves.\n" for number in range(90)))

    def planned(name: str, method: str = "gptq") -> Path:
        section = {"dataset": {"file": text}, "samples": 2, "length": 32}
        values = {
            "name": "tiny",
            "model": {"folder": model},
            "method": {"name": method, "bits": 4, "group_size": 32},
            "calibration": section if method == "gptq" else None,
            "publish": {"org": "me"},
        }
        plan(Recipe.model_validate(values), tmp_path / name, NOWHERE)
        return tmp_path / name

    return planned


@contextmanager
def killed(dies: Callable[[Path], bool], is_there: bool = True) -> Iterator[None]:
    """Die once a file that is looked for is there, or while all of it but its name is."""
    replace = os.replace

    def put(source: Path, target: Path) -> None:
        if is_there:
            replace(source, target)
        if dies(Path(target)):
            raise Killed
        if not is_there:
            replace(source, target)

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(os, "replace", put)
        yield


def last_of(number: int) -> Callable[[Path], bool]:
    """Tell of each file whether it is the last of so many."""
    left = iter(range(number, 0, -1))
    return lambda _: next(left) == 1


def run_on(run: Path, keep_every: str) -> None:
    """Quantize what is missing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, keep_every)
        quantize(Plan.load(run / "plan.json"), run, NOWHERE)


def killed_after(run: Path, file: str, keep_every: str) -> None:
    with killed(lambda path: str(path).endswith(file)):
        run_on(run, keep_every)
        pytest.fail("it ended before it was killed")


def goes_on(run: Path) -> str | None:
    return where_it_goes_on(Plan.load(run / "plan.json"), run)


def bytes_of(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


# Quantizes a model again for each of its files: some seconds.
@pytest.mark.parametrize("is_there", [True, False])
def test_a_run_killed_at_each_of_its_files_ends_with_the_same_bytes(
    is_there: bool, begin: Callable[..., Path]
) -> None:
    whole, run = begin("whole"), begin("killed")
    run_on(whole, LAST)
    seen = set()

    for number in takewhile(lambda _: not (run / "checkpoint.json").exists(), count(1)):
        with killed(last_of(number), is_there):
            run_on(run, ALWAYS if number % 2 else LAST)
        seen.add(goes_on(run))

    assert {None, f"after block 1 of {BLOCKS}", f"after block 3 of {BLOCKS}"} <= seen
    assert bytes_of(run) == bytes_of(whole)


class Wanting(Recorder):
    """Ask for more memory than there is once a step is done."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Open a task whose steps do so."""

        def advance(steps: int) -> None:
            bytearray(steps << 60)

        yield advance


def test_a_run_without_enough_memory_names_the_settings_and_goes_on(
    begin: Callable[..., Path],
) -> None:
    run = begin("run")

    with pytest.raises(UserError) as raised:
        quantize(Plan.load(run / "plan.json"), run, NOWHERE, Wanting())
    run_on(run, LAST)

    assert str(raised.value) == (
        "quantizing ran out of memory: free memory and run again, which goes on where it stopped, "
        "set HUBQ_HIDDEN_STATES=disk to keep hidden states in files, or lower calibration.samples "
        "(2) or calibration.length (32) in the recipe and run with --fresh"
    )
    assert bytes_of(run)


def test_blocks_behind_the_last_states_are_made_again(begin: Callable[..., Path]) -> None:
    whole, run = begin("whole"), begin("killed")
    run_on(whole, LAST)
    killed_after(run, "00001/states.safetensors", ALWAYS)
    killed_after(run, "block-00002.json", LAST)
    for number in (1, 2):
        (run / "blocks" / f"block-0000{number}.safetensors").write_bytes(b"of a run before")

    found = goes_on(run)
    run_on(run, LAST)

    assert found == f"after block 1 of {BLOCKS}"
    assert bytes_of(run) == bytes_of(whole)


def test_a_folder_in_which_states_came_before_their_record_goes_on(
    begin: Callable[..., Path],
) -> None:
    whole, run = begin("whole"), begin("killed")
    run_on(whole, LAST)
    killed_after(run, "00001/states.safetensors", ALWAYS)
    before = (run / "blocks/states/00001/states.safetensors").read_bytes()
    killed_after(run, "00002/states.safetensors", ALWAYS)
    # As hubq left it before states were kept at intervals, killed between the two.
    (run / "blocks" / "block-00001.json").unlink()
    (run / "blocks/states/00001").mkdir(exist_ok=True)
    (run / "blocks/states/00001/states.safetensors").write_bytes(before)

    found = goes_on(run)
    run_on(run, LAST)

    assert found == f"after block 1 of {BLOCKS}"
    assert bytes_of(run) == bytes_of(whole)


def test_without_calibration_every_block_counts(begin: Callable[..., Path]) -> None:
    run = begin("run", "rtn")

    killed_after(run, "block-00001.json", LAST)

    assert goes_on(run) == f"after block 2 of {BLOCKS}"


def test_a_run_that_has_only_a_plan_goes_on_nowhere(begin: Callable[..., Path]) -> None:
    assert goes_on(begin("run")) is None


@pytest.mark.parametrize(
    ("interval", "ends", "kept"),
    [
        (LAST, [1, 2, 3], {3}),
        (ALWAYS, [1, 2, 3], {1, 2, 3}),
        # The second is kept since the third would end after 12 s, the fourth in the same way.
        ("10", [4, 8, 12, 16, 20], {2, 4, 5}),
        ("10", [30, 60, 61, 62], {1, 2, 4}),  # the third block was short
    ],
)
def test_states_are_kept_before_an_interval_is_over(
    interval: str, ends: list[int], kept: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, interval)
    times = iter([0, *ends])
    states, found = States(tmp_path), set()

    with Keeper(states, lambda: next(times)) as keeper:
        for number in range(1, len(ends) + 1):
            keeper.offer(number, {"hidden": torch.ones(number)}, number == len(ends))
            found.add(states.passed())

    assert found - {0} == kept
    assert torch.equal(states.read(len(ends))["hidden"], torch.ones(len(ends)))
    assert [path.name for path in tmp_path.iterdir()] == [f"{len(ends):05d}"]


class Waiting(States):
    """States whose writing waits until it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_go = Event()

    def write(self, passed: int, tensors: Mapping[str, Tensor]) -> None:
        """Wait, then write."""
        assert self.may_go.wait(10)
        super().write(passed, tensors)


def test_what_a_gpu_changes_meanwhile_is_kept_as_it_was(
    device: torch.device, tmp_path: Path
) -> None:
    states, hidden = Waiting(tmp_path), torch.ones(4, device=device)

    with Keeper(states) as keeper:
        keeper.offer(1, {"hidden": hidden}, is_last=True)
        hidden += 1
        found_meanwhile = states.passed()
        states.may_go.set()

    assert found_meanwhile == 0
    assert torch.equal(states.read(1)["hidden"], torch.ones(4))


def test_what_stops_a_write_stops_the_walk(device: torch.device, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keeper = Keeper(States(tmp_path / "file"))
    hidden = {"hidden": torch.ones(4, device=device)}
    keeper.offer(1, hidden, is_last=True)

    with pytest.raises(NotADirectoryError, match="file/00001"):
        keeper.offer(2, hidden, is_last=True)


def test_what_stops_the_last_write_is_raised_at_the_end(
    device: torch.device, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    hidden = {"hidden": torch.ones(4, device=device)}

    with (
        pytest.raises(NotADirectoryError, match="file/00001"),
        Keeper(States(tmp_path / "file")) as keeper,
    ):
        keeper.offer(1, hidden, is_last=True)


@pytest.mark.parametrize("asked", ["often", "-1", "nan"])
def test_an_interval_that_is_no_time_is_refused(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, asked)

    with pytest.raises(UserError, match=f"{VARIABLE} is '{asked}': set it to the seconds"):
        Keeper(States(tmp_path))
