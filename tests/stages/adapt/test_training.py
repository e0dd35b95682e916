"""A training is exact: the same bytes whenever it stops, and however many pairs run at once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from progress_recorder import Killed, Killing, Recorder
from safetensors.torch import load_file
from taught_model import (
    CPU,
    TinyModel,
    adapter,
    beside,
    pairs,
    quantized,
    trainable,
)
from torch import Tensor

from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.methods.adapters.ir_qlora import IRQLoRA
from hubq.methods.adapters.qlora import QLoRA
from hubq.sources.instructions.tokens import Examples
from hubq.stages.adapt.batches import Order, rows
from hubq.stages.adapt.objective import backward, mean_losses
from hubq.stages.adapt.training import Trained, evenly, paired, train
from hubq.stages.quantize.resuming import VARIABLE

STEPS = 4


@pytest.fixture(scope="module")
def folder(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantized model."""
    place = tmp_path_factory.mktemp("taught") / "model"
    return quantized(tiny_model("llama"), place, "compressed-tensors")


def taught(
    folder: Path,
    states: Path,
    progress: Progress = SILENT,
    chosen: QLoRA | None = None,
    examples: Examples | None = None,
) -> tuple[dict[str, Tensor], Trained]:
    """Train; return the parameters, and how it went."""
    chosen = chosen or adapter(IRQLoRA, dropout=0.1, steps=STEPS)
    model = beside(folder, chosen)
    parameters = trainable(model)
    trained = train(model, parameters, examples or pairs(), chosen, states, progress)
    return {name: each.detach() for name, each in parameters.items()}, trained


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Trains a tiny model once for each step: seconds.
def test_a_training_killed_behind_any_step_ends_with_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, outcome = taught(folder, tmp_path / "whole")

    for steps in range(1, STEPS):
        states = tmp_path / f"killed-{steps}"
        monkeypatch.setenv(VARIABLE, "0" if steps % 2 else "1e9")
        with pytest.raises(Killed):
            taught(folder, states, Killing(steps, "Steps"))
        monkeypatch.setenv(VARIABLE, "1e9")
        progress = Recorder()
        parameters, again = taught(folder, states, progress)

        assert same(parameters, whole)
        assert (again.curve, again.held_out) == (outcome.curve, outcome.held_out)
        left = sum(progress.totals[title] for title in progress.titles if "Steps" in title)
        assert left == (STEPS - steps if steps % 2 else STEPS)


def test_a_finished_training_is_taken_up_without_a_step(folder: Path, tmp_path: Path) -> None:
    whole, outcome = taught(folder, tmp_path)
    progress = Recorder()

    parameters, again = taught(folder, tmp_path, progress)

    assert same(parameters, whole)
    assert again == outcome
    assert not [title for title in progress.titles if title.startswith("Steps")]


def test_it_learns(folder: Path, tmp_path: Path) -> None:
    chosen = adapter(steps=20, batch_size=8, warmup=0.1)

    _, trained = taught(folder, tmp_path, chosen=chosen, examples=pairs(40, 8))

    held_out = trained.held_out
    assert held_out is not None
    assert held_out.difference.high is not None
    assert held_out.difference.high < 0
    assert held_out.after == pytest.approx(held_out.before + held_out.difference.value)
    assert trained.curve.losses[-1] < trained.curve.losses[0]
    assert trained.curve.held_out_losses[0] == held_out.before
    assert trained.curve.held_out_losses[-1] == held_out.after
    assert trained.curve.held_out_steps[-1] == trained.curve.steps[-1] == 20


def gradients(folder: Path, at_once: int) -> dict[str, Tensor]:
    chosen = adapter(at_once=at_once, steps=1, greatest_gradient=1e9)
    model = beside(folder, chosen)
    examples = pairs(8).train
    parts = [rows(examples[begin : begin + at_once], 0) for begin in range(0, 8, at_once)]
    tokens = sum(len(each.targets) for each in parts)
    for part in parts:
        backward(model, part, tokens)
    return {name: each.grad for name, each in trainable(model).items() if each.grad is not None}


@pytest.mark.parametrize("at_once", [1, 3])
def test_accumulated_gradients_are_those_of_the_whole_batch(at_once: int, folder: Path) -> None:
    whole, parts = gradients(folder, 8), gradients(folder, at_once)

    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-7)


def test_gradients_are_those_of_the_mean_loss_of_transformers(folder: Path) -> None:
    """Its own loss is the mean over all labelled tokens, with a mask for what is padded."""
    model = beside(folder, adapter())
    examples, length = pairs(8).train, 40
    ids = torch.tensor([[*each.ids, *[0] * (length - len(each.ids))] for each in examples])
    labels = torch.tensor([[*each.labels, *[-100] * (length - len(each.ids))] for each in examples])
    mask = torch.tensor([[1] * len(each.ids) + [0] * (length - len(each.ids)) for each in examples])

    loss = model(input_ids=ids, labels=labels, attention_mask=mask).loss
    loss.backward()

    found = gradients(folder, 8)
    for name, parameter in trainable(model).items():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-6)
    batch = rows(examples, 0)
    total = backward(beside(folder, adapter()), batch, 1)
    assert float(total) / len(batch.targets) == pytest.approx(loss.item(), rel=1e-5)


def test_a_pairs_loss_depends_on_no_other_pair(folder: Path) -> None:
    model, held_out = beside(folder, adapter()), pairs().held_out

    together, alone = (mean_losses(model, held_out, at_once, 0) for at_once in (4, 1))

    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    reverse = mean_losses(model, held_out[::-1], 4, 0)
    torch.testing.assert_close(reverse.flip(0), together, rtol=1e-5, atol=1e-6)


def test_logits_in_pieces_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gradients(folder, 8)
    monkeypatch.setattr("hubq.stages.adapt.objective.LOGITS", 3 * 260)

    parts = gradients(folder, 8)

    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-7)


def test_a_loss_that_is_no_number_stops_it_and_leaves_the_last_good_state(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1e9")
    chosen = adapter(steps=STEPS, learning_rate=1e30, greatest_gradient=1e30)

    with pytest.raises(UserError, match=r"no finite number at step \d of 4.*learning_rate"):
        taught(folder, tmp_path, chosen=chosen)

    (kept,) = tmp_path.glob("*/states.safetensors")
    assert all(each.isfinite().all() for each in load_file(kept).values())


def test_progress_tells_the_loss(folder: Path, tmp_path: Path) -> None:
    progress = Recorder()

    _, trained = taught(folder, tmp_path, progress, examples=pairs(10, 2))

    first, *_, last = [title for title in progress.titles if title.startswith("Steps")]
    assert first.startswith("Steps 1 to ")
    assert "held-out" in first
    assert f"loss so far {trained.curve.losses[-3]:.3f}" in last
    assert progress.steps[progress.titles[0]] == STEPS


def test_it_trains_on_another_device(device: torch.device, folder: Path, tmp_path: Path) -> None:
    chosen = adapter(IRQLoRA, steps=2, dropout=0.1)
    models: list[Any] = [beside(folder, chosen, each) for each in (device, CPU)]

    there, here = (
        train(model, trainable(model), pairs(), chosen, tmp_path / str(number), SILENT)
        for number, model in enumerate(models)
    )

    assert there.curve.losses == pytest.approx(here.curve.losses, rel=1e-4)
    assert {each.device.type for each in trainable(models[0]).values()} == {device.type}


def test_a_device_goes_on_from_a_state(
    device: torch.device, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = adapter(steps=3)
    whole, killed, again = (beside(folder, chosen, device) for _ in range(3))
    train(whole, trainable(whole), pairs(), chosen, tmp_path / "whole", SILENT)
    monkeypatch.setenv(VARIABLE, "0")

    with pytest.raises(Killed):
        train(killed, trainable(killed), pairs(), chosen, tmp_path / "killed", Killing(2, "Steps"))
    train(again, trainable(again), pairs(), chosen, tmp_path / "killed", SILENT)

    expected = {name: each.detach().cpu() for name, each in trainable(whole).items()}
    assert same({name: each.detach().cpu() for name, each in trainable(again).items()}, expected)


def test_each_epoch_has_every_pair_once_and_lengths_lie_together() -> None:
    lengths = [number % 37 for number in range(1000)]
    order = Order(lengths, 16, seed=3)

    first, second = ([order.batch(63 * epoch + step) for step in range(63)] for epoch in (0, 1))

    assert sorted(pair for batch in first for pair in batch) == list(range(1000))
    assert sorted(pair for batch in second for pair in batch) == list(range(1000))
    assert first != second
    spread = [max(lengths[pair] for pair in batch) - min(lengths[pair] for pair in batch)
              for batch in first]  # fmt: skip
    assert sorted(spread)[len(spread) // 2] <= 2
    assert [lengths[batch[0]] for batch in first] != sorted(lengths[batch[0]] for batch in first)
    assert Order(lengths, 16, seed=3).batch(70) == order.batch(70)
    assert Order(lengths, 16, seed=4).batch(70) != order.batch(70)


def test_a_curve_has_few_points_that_end_with_the_last_step() -> None:
    assert evenly(3, 10) == (1, 2, 3)
    assert evenly(1000, 4) == (250, 500, 750, 1000)
    assert evenly(7, 3) == (3, 5, 7)


def test_a_difference_is_of_pairs() -> None:
    before = torch.tensor([1.0, 5.0, 9.0], dtype=torch.float64)

    found = paired(before, before - torch.tensor([0.5, 0.6, 0.4], dtype=torch.float64))

    assert found.value == pytest.approx(-0.5)
    assert found.low == pytest.approx(-0.5 - 1.96 * 0.1 / 3**0.5)
    assert paired(before[:1], before[:1]).low is None
