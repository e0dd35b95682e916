"""Two sign planes: by Triton and in plain torch as by numba on a CPU."""

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from hubq.tensors.kernels.sign_planes import fit_levels, round_to_signs, sign_errors

COLUMNS, OUT = 12, 70  # one program's 64 rows, and some of another
SETS = torch.arange(COLUMNS) // 5
Load = Callable[[str], ModuleType]
Block = tuple[Tensor, Tensor, Tensor]  # the weight, where it has been moved, the feedback


def block() -> Block:
    random = torch.Generator().manual_seed(0)
    weight, movement = torch.randn(2, COLUMNS, OUT, generator=random)
    feedback = torch.randn(COLUMNS, COLUMNS, generator=random) / 4
    return weight, weight + movement / 10, feedback


def levels() -> Tensor:
    """Return random levels of three sets: larger, smaller and mean."""
    found = torch.rand(3, 3, OUT, generator=torch.Generator().manual_seed(1))
    return found * torch.tensor([1, 0.5, 0.3])[:, None, None]


def elsewhere(
    given: Block, levels: Tensor, device: torch.device, interpreted: Load
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what comes of a block by Triton, interpreted, and on a device by what it has there."""
    yield interpreted("sign_planes").round_to_signs(*given, levels[:, SETS])
    there = [each.to(device) for each in (*given, levels, SETS)]
    codes, errors = round_to_signs(*there)
    assert codes.device.type == errors.device.type == device.type
    yield codes.cpu(), errors.cpu()


def test_codes_are_those_of_a_cpu_and_so_is_the_loss(
    device: torch.device, interpreted: Load
) -> None:
    codes, errors = round_to_signs(*block(), levels(), SETS)

    for others, other_errors in elsewhere(block(), levels(), device, interpreted):
        # A weight that lies half-way may go either way, and then the rest of its row follows.
        alike = (others == codes).all(0)
        assert alike.float().mean() > 0.95
        torch.testing.assert_close(other_errors[:, alike], errors[:, alike])
        assert float(other_errors.square().sum()) == pytest.approx(
            float(errors.square().sum()), rel=1e-2
        )


def test_ties_go_where_they_go_on_a_cpu(device: torch.device, interpreted: Load) -> None:
    moved = (torch.arange(COLUMNS * OUT).view(COLUMNS, OUT) % 17 - 8) / 2
    four = torch.tensor([2.0, 1.0, 0.0])[:, None, None].expand(3, 3, OUT)
    feedback = torch.zeros(COLUMNS, COLUMNS)
    feedback[2, 5] = 1

    codes, errors = round_to_signs(moved, moved, feedback, four, SETS)

    assert set(codes.flatten().tolist()) == {0, 1, 2, 3}
    for others, other_errors in elsewhere((moved, moved, feedback), four, device, interpreted):
        assert torch.equal(others, codes)
        assert torch.equal(other_errors, errors)


def test_nan_is_code_zero_and_its_error_moves_what_comes_to_code_zero(
    device: torch.device, interpreted: Load
) -> None:
    weight, moved, feedback = block()
    weight[4, 3] = moved[4, 3] = torch.nan

    codes, errors = round_to_signs(weight, moved, feedback, levels(), SETS)

    assert torch.equal(codes[4:, 3], torch.zeros(8, dtype=torch.uint8))
    assert torch.equal(errors.isnan(), weight.isnan())
    for others, other_errors in elsewhere((weight, moved, feedback), levels(), device, interpreted):
        assert torch.equal(others, codes)
        assert torch.equal(other_errors.isnan(), errors.isnan())


def test_errors_are_those_of_a_cpu(device: torch.device) -> None:
    weight = block()[0]
    codes, _ = round_to_signs(*block(), levels(), SETS)

    found = sign_errors(*(each.to(device) for each in (weight, codes, levels(), SETS)))

    assert found.device.type == device.type
    torch.testing.assert_close(found.cpu(), sign_errors(weight, codes, levels(), SETS))


@pytest.mark.parametrize("means", [False, True])
@pytest.mark.parametrize("apart", [SETS == 1, SETS < 0, SETS >= 0], ids=["some", "none", "all"])
def test_levels_are_fitted_as_on_a_cpu(apart: Tensor, means: bool, device: torch.device) -> None:
    weight, energy = block()[0].T.clone(), torch.rand(COLUMNS) + 0.1
    weight[0] = 0.25  # a row without a break-point
    weight[1, 0] = torch.nan

    found = fit_levels(*(each.to(device) for each in (weight, energy, apart)), means=means)

    for there, here in zip(found, fit_levels(weight, energy, apart, means=means), strict=True):
        assert there.device.type == device.type
        torch.testing.assert_close(there.cpu(), here, equal_nan=True)
