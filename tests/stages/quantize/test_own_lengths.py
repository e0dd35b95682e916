"""Windows of their own lengths: what fills them up changes nothing, all else counts."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from progress_recorder import Killed, Killing
from tiny_models import save_tiny_model
from torch import Tensor

from hubq.client.client import Client
from hubq.machine.progress import SILENT, Clock
from hubq.methods import Inputs, Layer, Method, Need, method_class
from hubq.methods.rtn import RTN
from hubq.records.plan import Plan
from hubq.sources.architecture import family_of
from hubq.sources.calibration_tokens import Tokens
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.plan.plan import plan
from hubq.stages.quantize import block as block_module
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.quantize import quantize
from hubq.stages.quantize.resuming import VARIABLE, States
from hubq.stages.quantize.streams import Room, settled
from hubq.stages.quantize.tuning import Teacher, prediction_entropy
from hubq.stages.quantize.walk import Outcome, Walk
from hubq.stages.quantize.windows import EVERY, Windows, embedded
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
LENGTHS = (24, 20, 9, 9, 3)
WEIGHTS = (torch.arange(24) < torch.tensor(LENGTHS)[:, None]).float()
OPTIONS: dict[str, dict[str, object]] = {
    "gptq": {"group_size": 32},
    "awq": {"group_size": 32, "powers": 3, "clips": 2},
    "smoothquant": {},
    "db_llm": {"group_size": 32, "epochs": 1, "batch": 2},
}


class Opened:
    """A tiny model whose v and o have as many channels, so that scales fold between them too."""

    def __init__(self, folder: Path) -> None:
        save_tiny_model("mistral", folder)
        config = json.loads((folder / "config.json").read_bytes())
        self.skeleton = Skeleton(config, family_of(config), torch.device("cpu"), torch.bfloat16)
        self.weights = Weights(folder)
        ids = torch.arange(5 * 24).view(5, 24)
        self.hidden = self.weights.read("model.embed_tokens.weight")[ids]

    def filled(self, seed: int) -> Tensor:
        """Return the hidden states with anything at all where windows have ended."""
        noise = torch.randn(self.hidden.shape, generator=torch.Generator().manual_seed(seed))
        return self.hidden.where(WEIGHTS[..., None] > 0, 9 * noise.bfloat16())

    def walked(
        self, method: Method, hidden: Tensor, windows: Windows, entropy: Tensor | None = None
    ) -> Outcome:
        """Quantize the first block; the hidden states move on."""
        teacher = Teacher(
            hidden.clone(), torch.ones(5, 24) if entropy is None else entropy, windows
        )
        block = Block(self.skeleton, 0, self.weights)
        walk = Walk(block, method, torch.bfloat16, Clock())
        return walk.run(hidden, lambda: None, teacher, windows)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(tmp_path_factory.mktemp("own") / "model")


@pytest.mark.parametrize("name", OPTIONS)
def test_what_fills_windows_up_changes_no_weight_and_no_error(
    name: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_module, "BATCH_TOKENS", 48)  # three batches
    method = method_class(name).model_validate(OPTIONS[name])

    one, other = (opened.walked(method, opened.filled(seed), Windows(WEIGHTS)) for seed in (1, 2))

    assert one.errors == other.errors
    for linear, quantized in one.quantized.items():
        assert torch.equal(quantized.dequantize(), other.quantized[linear].dequantize())
    for parameter, value in one.dense.items():
        assert torch.equal(value, other.dense[parameter])


class Seeing(RTN):
    """Remembers its inputs."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gram", "magnitude", "sample"})
    takes_stored: ClassVar[bool] = False
    group_size: int = 32
    seen: ClassVar[dict[str, Inputs]] = {}

    def quantize(self, layer: Layer) -> object:  # type: ignore[override] # of RTN's kind
        Seeing.seen[layer.name.rpartition(".")[2]] = layer.inputs
        return super().quantize(layer)


def seen(opened: Opened, hidden: Tensor, windows: Windows) -> dict[str, Inputs]:
    Seeing.seen.clear()
    opened.walked(Seeing(), hidden, windows)
    return dict(Seeing.seen)


def test_the_statistics_are_those_of_the_windows_without_what_fills_them_up(
    opened: Opened,
) -> None:
    padded = opened.filled(1)
    found = seen(opened, padded, Windows(WEIGHTS))

    alone, leaving = [], []
    for number, length in enumerate(LENGTHS):
        window = opened.hidden[number : number + 1, :length].clone()
        alone.append(seen(opened, window, EVERY))
        leaving.append(window[0])

    for linear, inputs in found.items():
        each = [one[linear] for one in alone]
        assert inputs.tokens == sum(LENGTHS)
        assert inputs.sample is not None
        assert inputs.sample.shape[0] == sum(LENGTHS)
        close(inputs.sample, torch.cat([given(one.sample) for one in each]))
        close(inputs.gram, torch.stack([given(one.gram) for one in each]).sum(0))
        means = [given(one.mean_magnitude) * one.tokens for one in each]
        close(inputs.mean_magnitude, torch.stack(means).sum(0) / sum(LENGTHS))
        close(inputs.max_magnitude, torch.stack([given(one.max_magnitude) for one in each]).amax(0))
    for number, window in enumerate(leaving):
        close(padded[number, : len(window)], window)


def given(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def close(found: Tensor | None, expected: Tensor) -> None:
    error = (given(found).float() - expected.float()).norm() / expected.float().norm()
    assert error < 0.01


def test_a_token_of_twice_the_weight_counts_like_two(opened: Opened) -> None:
    twice = WEIGHTS.clone()
    twice[1] *= 2
    found = seen(opened, opened.hidden.clone(), Windows(twice))

    again = [0, 1, 1, 2, 3, 4]
    expected = seen(opened, opened.hidden[again].clone(), Windows(WEIGHTS[again]))

    for linear, inputs in found.items():
        close(inputs.gram, given(expected[linear].gram))
        close(inputs.mean_magnitude, given(expected[linear].mean_magnitude))
        assert torch.equal(given(inputs.max_magnitude), given(expected[linear].max_magnitude))


def test_the_teacher_reads_windows_as_if_they_ended_there(opened: Opened, tmp_path: Path) -> None:
    arguments = (opened.skeleton, opened.weights)
    windows = Windows(WEIGHTS)
    found = prediction_entropy(
        opened.filled(1), *arguments, States(tmp_path / "all"), SILENT, windows
    )

    for number, length in enumerate(LENGTHS):
        window = opened.hidden[number : number + 1, :length]
        alone = prediction_entropy(window, *arguments, States(tmp_path / str(number)), SILENT)
        assert torch.allclose(found[number, :length], alone[0], atol=2e-3)
        assert not found[number, length:].any()


def test_batches_hold_like_windows_and_end_with_their_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_module, "BATCH_TOKENS", 40)
    ids = torch.arange(5)[:, None].expand(5, 24)
    shuffled = [3, 1, 4, 0, 2]
    rows = torch.arange(5.0)[:, None]

    entering = embedded(Tokens(ids, "", WEIGHTS[shuffled]), lambda wanted: rows[wanted])

    batches = list(Windows(entering.weights).batches(entering.hidden.shape))
    assert entering.hidden[:, 0, 0].tolist() == [3, 1, 0, 4, 2]
    assert batches == [
        (slice(0, 1), slice(0, 24)),
        (slice(1, 3), slice(0, 20)),
        (slice(3, 5), slice(0, 9)),
    ]


@pytest.mark.parametrize("place", ["host", "disk"])
def test_a_part_of_windows_is_read_and_written_wherever_they_wait(
    place: str, tmp_path: Path
) -> None:
    values = torch.arange(24.0).view(3, 4, 2)
    stream = Room(torch.device("cpu"), place, tmp_path).holding(values, values.dtype)  # type: ignore[arg-type]
    where = (slice(1, 3), slice(0, 2))

    stream[where] = stream[where] + 100

    values[where] += 100
    assert torch.equal(settled(stream), values)


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Path]:
    """Return a function from a run's name to its folder, planned on conversations."""
    save_tiny_model("llama", tmp_path / "model", num_hidden_layers=3)
    turns = [
        [("user", f"What is {number}?"), ("assistant", f"It is {number}. " * (number % 7 + 1))]
        for number in range(12)
    ]
    lines = (
        json.dumps({"said": [{"role": role, "content": text} for role, text in each]})
        for each in turns
    )
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))

    def planned(name: str, method: str) -> Path:
        dataset = {"file": tmp_path / "chats.jsonl", "messages": "said"}
        values = {
            "name": "tiny",
            "model": {"folder": tmp_path / "model"},
            "method": {"name": method, **OPTIONS[method]},
            "format": "hubq",
            "calibration": {"dataset": dataset, "samples": 9, "length": 64},
            "publish": {"org": "me"},
        }
        plan(Recipe.model_validate(values), tmp_path / name, NOWHERE)
        return tmp_path / name

    return planned


@pytest.mark.parametrize("method", ["gptq", "db_llm"])
def test_a_killed_run_over_conversations_ends_with_the_same_bytes(
    method: str, begin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    whole, killed = begin("whole", method), begin("killed", method)
    expected = quantize(Plan.load(whole / "plan.json"), whole, NOWHERE)

    with suppress(Killed):
        quantize(Plan.load(killed / "plan.json"), killed, NOWHERE, Killing(6, "Quantizing"))
        pytest.fail("it ended before it was killed")
    found = quantize(Plan.load(killed / "plan.json"), killed, NOWHERE)

    assert found.files == expected.files
    assert found.calibration_tokens == expected.calibration_tokens < 9 * 64
