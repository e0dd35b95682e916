"""DB-LLM: the planes against a slow float64 version, and what training does to them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from watched_operations import WatchedOperations

from hubq.machine.progress import Clock
from hubq.methods import Inputs, Layer
from hubq.methods.db_llm import DBLLM
from hubq.methods.solvers.sign_planes import DualPlanes, dual_binary, nearest_planes
from hubq.sources.architecture import family_of
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.streams import settled
from hubq.stages.quantize.tuning import BlockTuning, Teacher
from hubq.stages.quantize.walk import Walk
from hubq.tensors import Affine, Binary, Grid, values

RANDOM = torch.Generator().manual_seed(0)
SCALES = [(2.0, -1.0), (2.0, 1.0), (-2.0, 1.0), (-2.0, -1.0), (1.7, -1.1), (-2.3, 0.6)]


@pytest.fixture
def layer() -> Layer:
    inputs = torch.randn(300, 64, generator=RANDOM)
    weight = torch.randn(16, 64, generator=RANDOM) / 10
    return Layer("model.layers.0.mlp.up_proj", weight, Inputs(300, inputs.T @ inputs))


def slow_levels(high: float, low: float) -> Tensor:
    """List the four sums of the two scales, float64."""
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return torch.tensor([high * one + low * two for one, two in pairs], dtype=torch.float64)


@pytest.mark.parametrize(("high", "low"), SCALES)
def test_a_weight_takes_the_nearest_of_four_levels(high: float, low: float) -> None:
    weight = torch.randn(8, 3, 16, generator=RANDOM) * 2
    scales = torch.tensor([high, low])[:, None, None].expand(2, 8, 3)

    first, second = nearest_planes(weight, scales).double()

    levels = slow_levels(high, low)
    nearest = levels[(weight.double()[..., None] - levels).abs().argmin(-1)]
    assert torch.allclose(first * high + second * low, nearest, atol=1e-6)


def test_every_two_bit_grid_is_two_planes() -> None:
    codes = torch.arange(4, dtype=torch.uint8).repeat(4, 1)
    zero = torch.arange(4, dtype=torch.uint8)[:, None]
    grid = Affine(codes, torch.full((4, 1), 0.5, dtype=torch.bfloat16), zero, 2, 4)

    planes = dual_binary(grid)

    # The scales, 1 and 0.5 by their sizes, are rounded to 8 bits of the row's largest.
    assert torch.allclose(planes.dequantize(), grid.dequantize(), rtol=0.01)


def test_a_weight_is_the_sum_of_its_planes_scales(layer: Layer) -> None:
    result = DBLLM(group_size=32).quantize(layer)

    high, low = (values(scale).double().repeat_interleave(32, 1) for scale in result.scale)
    slow = result.signs[0] * high + result.signs[1] * low
    assert torch.equal(result.dequantize().double(), slow)


def test_training_begins_where_the_quantizer_ended(layer: Layer) -> None:
    start = DBLLM(group_size=32).quantize(layer)

    planes = DualPlanes(start, layer.weight)

    assert torch.equal(planes.binary().signs, start.signs)


def test_what_is_stored_is_what_was_trained(layer: Layer) -> None:
    planes = DualPlanes(DBLLM(group_size=32).quantize(layer), layer.weight)

    stored = planes.binary()

    assert torch.equal(stored.dequantize(), planes.weight().detach())


def test_gradients_reach_the_scales_as_through_the_sum(layer: Layer) -> None:
    start = DBLLM(group_size=32).quantize(layer)
    planes = DualPlanes(start, layer.weight)
    pull = torch.randn(16, 64, generator=RANDOM).bfloat16()

    torch.autograd.backward((planes.weight() * pull).sum())

    assert planes.scales.grad is not None
    by_scale = (start.signs.double() * pull.double()).view(2, 16, 2, 32).sum(3)
    assert torch.allclose(planes.scales.grad.double(), by_scale * planes.step, rtol=1e-3, atol=1e-5)


def test_gradients_pass_the_rounding_to_the_weights(layer: Layer) -> None:
    planes = DualPlanes(DBLLM(group_size=32).quantize(layer), layer.weight)
    pull = torch.randn(16, 64, generator=RANDOM).bfloat16()

    torch.autograd.backward((planes.weight() * pull).sum())

    assert planes.latent.grad is not None
    expected = pull.float().view(16, 2, 32) * planes.step[..., None]
    assert torch.allclose(planes.latent.grad, expected, rtol=1e-3)


def test_a_group_of_zeros_stays_finite(layer: Layer) -> None:
    weight = layer.weight.clone()
    weight[3] = weight[5, :32] = 0

    planes = DualPlanes(DBLLM(group_size=32).quantize(replace(layer, weight=weight)), weight)

    assert torch.isfinite(planes.latent).all()
    assert not planes.binary().dequantize()[3].any()


class Tuned:
    """A block of a tiny model before and after training, and what it was trained on."""

    def __init__(self, folder: Path, method: DBLLM) -> None:
        config = json.loads((folder / "config.json").read_bytes())
        skeleton = Skeleton(config, family_of(config), torch.device("cpu"), torch.bfloat16)
        self.block = Block(skeleton, 0, Weights(folder))
        random = torch.Generator().manual_seed(1)
        hidden = torch.randn(8, 32, config["hidden_size"], generator=random).bfloat16()
        self.teacher = Teacher(hidden.clone(), torch.rand(8, 32, generator=random))
        self.entering = hidden.clone()
        self.outcome = Walk(self.block, method, torch.bfloat16, Clock()).run(
            hidden, lambda: None, self.teacher
        )
        self.leaving = hidden

    @property
    def error(self) -> float:
        return float((self.leaving.float() - settled(self.teacher.hidden).float()).square().mean())


# Trains a block for 16 steps: some seconds.
@pytest.mark.parametrize("targets", ["model", "block"])
def test_training_brings_a_blocks_outputs_nearer(
    targets: str, tiny_model: Callable[[str], Path]
) -> None:
    options = {"group_size": 32, "batch": 2, "targets": targets}
    before = Tuned(tiny_model("llama"), DBLLM.model_validate(options | {"epochs": 0}))

    after = Tuned(
        tiny_model("llama"), DBLLM.model_validate(options | {"epochs": 4, "weight_rate": 0.03})
    )

    assert after.error < 0.9 * before.error


# Trains a block twice.
def test_training_twice_gives_the_same_planes(tiny_model: Callable[[str], Path]) -> None:
    method = DBLLM(group_size=32, batch=2, epochs=2)

    first, second = (Tuned(tiny_model("qwen3"), method).outcome.quantized for _ in range(2))

    for name, result in first.items():
        assert torch.equal(result.dequantize(), second[name].dequantize())


def test_attention_adds_up_its_gradients_in_a_fixed_order(
    tiny_model: Callable[[str], Path],
) -> None:
    fixed = []

    def note(name: str, *_: object) -> None:
        if "attention" in name and "backward" in name:
            fixed.append(torch.are_deterministic_algorithms_enabled())

    with WatchedOperations(note):
        Tuned(tiny_model("llama"), DBLLM(group_size=32, batch=4, epochs=1))

    assert fixed == [True, True]  # of two steps
    assert not torch.are_deterministic_algorithms_enabled()


def test_tokens_that_the_base_is_sure_of_count_for_nothing(
    tiny_model: Callable[[str], Path],
) -> None:
    tuned = Tuned(tiny_model("llama"), DBLLM(group_size=32, epochs=0))
    entropy = torch.zeros(8, 32)
    entropy[:, 5] = 1
    spoiled = settled(tuned.teacher.hidden).clone()
    spoiled[:, 6:] = 100
    method = DBLLM(group_size=32, ambiguity=1)
    planes = _planes(tuned)
    losses = []

    for hidden in (tuned.teacher.hidden, spoiled):
        block = BlockTuning(
            tuned.block, tuned.outcome.quantized, tuned.entering, Teacher(hidden, entropy)
        )
        losses.append(method.loss(block, torch.arange(8), planes).item())

    assert losses[0] == losses[1]


def _planes(tuned: Tuned) -> dict[str, DualPlanes]:
    block = BlockTuning(tuned.block, tuned.outcome.quantized, tuned.entering, tuned.teacher)
    return {
        name: DualPlanes(start, block.weight(name))
        for name, start in tuned.outcome.quantized.items()
        if isinstance(start, Binary)
    }


def test_a_ragged_group_is_refused_with_a_way_out() -> None:
    assert DBLLM(group_size=128).why_unsupported((64, 576)) == (
        "group_size 128 does not divide 576 inputs; use 32 or 64 or -1 (a whole row)"
    )


def test_the_grid_of_scales_is_that_of_the_plan(layer: Layer) -> None:
    sketch, result = (
        DBLLM(group_size=32).sketch((16, 64), torch.bfloat16),
        DBLLM(group_size=32).quantize(layer),
    )

    for planned, made in zip(sketch.scale, result.scale, strict=True):
        assert isinstance(planned, Affine)
        assert isinstance(made, Affine)
        assert (planned.bits, planned.shape, planned.group_size) == (8, made.shape, made.group_size)
    assert Grid(8).levels == 255
