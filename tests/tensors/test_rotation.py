"""Rotations from a seed: orthogonal, the same everywhere, and undone exactly enough."""

import pytest
import torch

from hubq.runtime.formulas import turns, uniform, unrotate
from hubq.tensors.composed import rotate
from hubq.tensors.gram import rotate_gram

CPU = torch.device("cpu")
SHAPES = [(12, 30), (7, 13), (1, 8), (64, 1), (36, 96)]
WORD = (1 << 64) - 1


def slow_splitmix64(seed: int, count: int) -> list[int]:
    """Steele, Lea and Flood 2014, in Python's integers."""
    found = []
    for place in range(1, count + 1):
        value = (seed + place * 0x9E3779B97F4A7C15) & WORD
        value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & WORD
        value = ((value ^ value >> 27) * 0x94D049BB133111EB) & WORD
        found.append(value ^ value >> 31)
    return found


def random_matrix(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_slow_generator_gives_the_published_values() -> None:
    assert slow_splitmix64(0, 3) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**63 - 1])
def test_numbers_are_those_of_splitmix64(seed: int) -> None:
    drawn = uniform(seed, 1000)

    state = seed * 0x5851F42D4C957F2D % (1 << 63)
    expected = [((value >> 11) + 1) * 2.0**-53 for value in slow_splitmix64(state, 1000)]
    assert drawn.tolist() == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_both_sides_are_orthogonal(shape: tuple[int, int]) -> None:
    for size, turn in zip(shape, turns(*shape, 5, CPU), strict=True):
        matrix = turn.forth(torch.eye(size, dtype=torch.float64))

        torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=torch.float64))


def test_a_turn_is_a_permutation_and_then_a_kronecker_product() -> None:
    _, turn = turns(4, 12, 5, CPU)
    rows = random_matrix(3, 12).double()

    turned = turn.forth(rows)

    torch.testing.assert_close(turned, rows[:, turn.order] @ torch.kron(turn.left, turn.right).T)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_turned_comes_back(shape: tuple[int, int]) -> None:
    weight = random_matrix(*shape)

    back = unrotate(rotate(weight, 9), 9)

    torch.testing.assert_close(back, weight, rtol=1e-5, atol=1e-5)


def test_the_same_seed_undoes_to_the_same_bits() -> None:
    weight = random_matrix(36, 96)
    first = unrotate(weight, 3)
    turns.cache_clear()

    second = unrotate(weight, 3)

    assert torch.equal(first, second)


def test_another_seed_is_another_rotation() -> None:
    weight = random_matrix(36, 96)

    first, second = rotate(weight, 0), rotate(weight, 1)

    assert (first - second).abs().mean() > 0.5


def test_a_weight_and_its_gram_matrix_turned_together_leave_the_outputs_energy() -> None:
    weight, inputs = random_matrix(10, 24), random_matrix(50, 24)
    gram = inputs.T @ inputs

    turned, turned_gram = rotate(weight, 4), rotate_gram(gram, 10, 4)

    energy = ((turned @ turned_gram) * turned).sum()
    torch.testing.assert_close(energy, (inputs @ weight.T).square().sum())


def test_one_large_weight_is_spread_over_all() -> None:
    weight = torch.zeros(96, 96)
    weight[3, 50] = 1

    turned = rotate(weight, 0)

    assert turned.abs().max() < 0.3
    assert (turned != 0).all()
