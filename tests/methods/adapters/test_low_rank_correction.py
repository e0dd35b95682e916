"""The closed form: nothing of its rank loses less of the outputs, and it says what it loses."""

from dataclasses import replace

import pytest
import torch
from counted_memory import Counted
from pretend_device import pretending
from torch import Tensor

from hubq.methods.adapters.branches.correction import Correction
from hubq.methods.adapters.low_rank import LowRank
from hubq.tensors import Affine, Grid

SHAPES = [(24, 40), (40, 24), (32, 32)]
DAMPING = 0.01


class Linear:
    """A weight, what it was rounded to, and inputs that are alike in some channels."""

    def __init__(self, shape: tuple[int, int], tokens: int = 200) -> None:
        random = torch.Generator().manual_seed(sum(shape))
        out, columns = shape
        mixed = torch.eye(columns) + torch.randn(columns, columns, generator=random) / 4
        self.inputs = torch.randn(tokens, columns, generator=random) @ mixed
        self.inputs *= torch.logspace(-1, 1, columns)
        self.weight = torch.randn(out, columns, generator=random)
        self.quantized = Affine.fit(self.weight, Grid(bits=2, group_size=8))

    @property
    def gram(self) -> Tensor:
        return self.inputs.T @ self.inputs

    @property
    def error(self) -> Tensor:
        return (self.weight - self.quantized.dequantize()).double()

    def corrected(self, rank: int, **options: object) -> Correction:
        adapter = LowRank.model_validate({"rank": rank, "dtype": "float32"} | options)
        return adapter.correct(self.weight, self.quantized, self.gram)

    def lost(self, found: Correction) -> float:
        """Return the energy of what is left of the error, by the damped Gram matrix."""
        left = self.error - found.b.double() @ found.a.double()
        return float(((left @ self.damped()) * left).sum())

    def damped(self, damping: float = DAMPING) -> Tensor:
        gram = self.gram.double()
        return gram + damping * gram.diagonal().mean() * torch.eye(len(gram)).double()


def discarded(linear: Linear, rank: int) -> float:
    """Return the sum of the squared singular values that are left out."""
    values: Tensor = torch.linalg.svdvals(linear.error @ torch.linalg.cholesky(linear.damped()))
    return float(values[rank:].square().sum())


@pytest.mark.parametrize("rank", [1, 5, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_lost_is_the_sum_of_the_discarded_squared_singular_values(
    shape: tuple[int, int], rank: int
) -> None:
    linear = Linear(shape)

    found = linear.corrected(rank)

    assert found.a.shape == (rank, shape[1])
    assert found.b.shape == (shape[0], rank)
    assert linear.lost(found) == pytest.approx(discarded(linear, rank), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_full_rank_leaves_no_error(shape: tuple[int, int]) -> None:
    found = Linear(shape).corrected(min(shape))

    assert found.facts["error_before"] > 1e-3
    assert found.facts["error_after"] < 1e-10 * found.facts["error_before"]


@pytest.mark.parametrize("shape", SHAPES)
def test_more_rank_never_hurts(shape: tuple[int, int]) -> None:
    linear = Linear(shape)

    lost = [linear.lost(linear.corrected(rank)) for rank in (1, 2, 3, 6, 12, 24)]

    assert lost == sorted(lost, reverse=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_errors_are_those_of_the_outputs_relative_to_them(shape: tuple[int, int]) -> None:
    linear = Linear(shape)

    found = linear.corrected(4)

    def energy(weight: Tensor) -> float:
        return float((linear.inputs.double() @ weight.double().T).square().sum())

    whole, left = energy(linear.weight), linear.error - found.b @ found.a
    assert found.facts["error_before"] == pytest.approx(energy(linear.error) / whole, rel=1e-4)
    assert found.facts["error_after"] == pytest.approx(energy(left) / whole, rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_bfloat16_the_error_is_that_of_the_rounded_numbers(shape: tuple[int, int]) -> None:
    linear = Linear(shape)
    exact = linear.corrected(min(shape))

    found = linear.corrected(min(shape), dtype="bfloat16")

    for rounded, before in zip((found.a, found.b), (exact.a, exact.b), strict=True):
        assert torch.equal(rounded, before.bfloat16().float())
    assert 1e-7 < found.facts["error_after"] < 1e-3 * found.facts["error_before"]


@pytest.mark.parametrize("shape", SHAPES)
def test_inputs_that_no_token_used_do_no_harm(shape: tuple[int, int]) -> None:
    linear = Linear(shape, tokens=10)  # of a Gram matrix that is singular besides
    linear.inputs[:, ::3] = 0

    found = linear.corrected(10, damping=1e-30)

    assert found.a.isfinite().all()
    assert found.b.isfinite().all()
    assert found.facts["error_after"] < 1e-6 * found.facts["error_before"]


@pytest.mark.parametrize("shape", SHAPES)
def test_both_halves_are_alike_in_size_and_sign_whatever_the_library_chose(
    shape: tuple[int, int],
) -> None:
    found = Linear(shape).corrected(6)

    torch.testing.assert_close(found.a.norm(dim=1), found.b.norm(dim=0))
    peaks = found.b.gather(0, found.b.abs().argmax(0, keepdim=True))
    assert (peaks > 0).all()


def test_what_lost_nothing_gets_nothing() -> None:
    linear = Linear((24, 40))
    linear.weight = linear.quantized.dequantize()

    found = linear.corrected(3)

    assert not found.a.any()
    assert not found.b.any()
    assert found.facts == {"error_before": 0.0, "error_after": 0.0}


def test_linears_whose_inputs_are_rounded_are_refused() -> None:
    sketch = Affine.sketch((16, 64), Grid(4))

    assert LowRank().why_unsupported(sketch) is None
    assert LowRank().why_unsupported(replace(sketch, activation_bits=8)) == (
        "this method rounds the inputs of linears too, and what that loses no correction of "
        "the weights brings back; use a method that rounds weights alone"
    )


def test_it_is_computed_on_another_device(device: torch.device) -> None:
    linear = Linear((40, 24))
    expected = linear.corrected(4)

    found = LowRank(rank=4, dtype="float32").correct(
        linear.weight.to(device), linear.quantized, linear.gram.to(device)
    )

    assert found.a.device.type == device.type
    torch.testing.assert_close((found.b @ found.a).cpu(), expected.b @ expected.a)


@pytest.mark.parametrize("shape", [(256, 256), (64, 256), (896, 256), (256, 896)])
def test_it_holds_what_the_plan_counts(shape: tuple[int, int]) -> None:
    linear, adapter = Linear(shape), LowRank(rank=8)
    weights, grams = shape[0] * shape[1], shape[1] ** 2

    with pretending() as pretended:
        weight, gram = linear.weight.to(pretended), linear.gram.to(pretended)
        with Counted() as living:
            adapter.correct(weight, linear.quantized, gram)

    counted = 4 * (adapter.holds.weights * weights + (adapter.holds.grams - 1) * grams)
    assert 0.65 * counted < living.most < counted
