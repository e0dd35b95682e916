"""Where hidden states wait changes none of the bytes that a run makes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pretend_device import pretending

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.memory import VARIABLE, Place
from hubq.machine.progress import Progress
from hubq.records.checkpoint import Checkpoint
from hubq.stages.plan.plan import plan
from hubq.stages.quantize import quantization
from hubq.stages.quantize.quantization import Quantization
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.streams import Apart, Room, pour, settled
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
VALUES = torch.arange(5 * 3 * 2).reshape(5, 3, 2).bfloat16()


@pytest.mark.parametrize("place", ["host", "disk"])
def test_a_stream_elsewhere_is_read_to_the_device(place: Place, tmp_path: Path) -> None:
    with pretending() as device:
        stream = Room(device, place, tmp_path).holding(VALUES, torch.float32)

        stream[1:3] = stream[1:3] * 2
        batch, some = stream[1:4], stream[torch.tensor([4, 1])]

        assert batch.device == some.device == device
        assert torch.equal(batch.cpu(), VALUES[1:4] * torch.tensor([2, 2, 1])[:, None, None])
        assert torch.equal(some.cpu(), VALUES[[4, 1]] * torch.tensor([1, 2])[:, None, None])
    assert settled(stream).device.type == "cpu"
    assert not list(tmp_path.iterdir()), "a file of states has no name to be left behind under"


def test_a_copy_lies_where_its_original_does(tmp_path: Path) -> None:
    room = Room(torch.device("cpu"), "disk", tmp_path)
    original = room.holding(VALUES, VALUES.dtype)

    copied = Room.of(original).copy(original)
    original[0:5] = VALUES * 3
    pour(original, copied)
    original[0:5] = VALUES

    assert isinstance(copied, Apart)
    assert torch.equal(settled(copied), VALUES * 3)


def test_a_disk_without_room_for_states_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))

    with pytest.raises(UserError, match="a stream of hidden states needs"):
        Room(torch.device("cpu"), "disk", tmp_path).empty((4, 4, 4), torch.bfloat16)


@pytest.fixture
def recipe(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Recipe]:
    """Return a function from a method's name to a recipe that quantizes a tiny model by it."""
    text = tmp_path / "calibration.txt"
    text.write_text("".join(f"The {each}th llama ate {each * 7} leaves.\n" for each in range(90)))

    def make(name: str) -> Recipe:
        return Recipe.model_validate(
            {
                "name": "tiny",
                "model": {"folder": tiny_model("llama")},
                "method": {"name": name, "group_size": 32}
                | ({"epochs": 1} if name == "db_llm" else {"powers": 3, "clips": 2}),
                "format": "hubq",
                "calibration": {"dataset": {"file": text}, "samples": 9, "length": 64},
                "publish": {"org": "me"},
            }
        )

    return make


@pytest.mark.parametrize("name", ["awq", "db_llm"])
def test_the_bytes_are_the_same_wherever_states_wait(
    name: str,
    recipe: Callable[[str], Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places: list[Place] = []

    class Seen(Quantization):
        """Tells where its states lie."""

        def walk(self, progress: Progress) -> None:
            places.append(Room.of(self.hidden).place if self.hidden is not None else "device")
            super().walk(progress)

    monkeypatch.setattr(quantization, "Quantization", Seen)

    def quantized(where: torch.device, place: Place) -> Checkpoint:
        run = tmp_path / f"{where.type}-{place}"
        run.mkdir()
        monkeypatch.setenv(VARIABLE, place)
        monkeypatch.setattr(quantization, "best_device", lambda: where)
        return quantize(plan(recipe(name), run, NOWHERE), run, NOWHERE)

    here, in_files = (quantized(torch.device("cpu"), place) for place in ("device", "disk"))
    with pretending() as device:
        there, apart = (quantized(device, place) for place in ("device", "host"))

    assert in_files.files == here.files
    assert apart.files == there.files
    assert places == ["device", "disk", "device", "host"]
