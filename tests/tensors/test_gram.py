"""What changes a Gram matrix panel by panel makes what plain arithmetic on the whole makes."""

import pytest
import torch
from torch import Tensor

from hubq.runtime.formulas import turns
from hubq.tensors import gram as gram_module
from hubq.tensors.gram import mirror, reorder, reverse, rotate_gram

SIZE = 11  # no multiple of a panel


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram_module, "PANEL", 4)
    monkeypatch.setattr(gram_module, "PIECE", 9)


@pytest.fixture
def gram() -> Tensor:
    inputs = torch.randn(30, SIZE, generator=torch.Generator().manual_seed(0))
    return inputs.T @ inputs


def test_the_upper_triangle_is_never_read(gram: Tensor) -> None:
    expected = gram.tril() + gram.tril(-1).T
    gram += torch.full_like(gram, 3).triu_(1)

    mirror(gram)

    assert torch.equal(gram, expected)


def test_rows_and_columns_change_places_together(gram: Tensor) -> None:
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(1))
    expected = gram[order[:, None], order]

    reorder(gram, order)

    assert torch.equal(gram, expected)


def test_a_matrix_is_reversed_where_it_lies(gram: Tensor) -> None:
    expected = gram.flip(0, 1)

    reverse(gram)

    assert torch.equal(gram, expected)


def test_a_rotation_leaves_the_given_matrix_alone(gram: Tensor) -> None:
    before, stretch = gram.clone(), torch.linspace(0.5, 2, SIZE)

    found = rotate_gram(gram, 5, 7, stretch)

    whole = turns(5, SIZE, 7, gram.device)[1].forth(torch.eye(SIZE, dtype=torch.float64)).T
    expected = whole @ (gram.double() / stretch.outer(stretch)) @ whole.T
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(gram, before)
