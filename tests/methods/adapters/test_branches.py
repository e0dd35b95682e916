"""What is trained beside a linear, and what becomes of it."""

import pytest
import torch

from hubq.methods.adapters.branches.correction import Correction
from hubq.methods.adapters.branches.elastic import ElasticBranch, connected, spread_means
from hubq.methods.adapters.branches.lora import Branch
from hubq.methods.adapters.ir_qlora import IRQLoRA
from hubq.methods.adapters.qlora import QLoRA

DATASET = {"file": "/pairs.jsonl"}
SHAPE = (48, 32)  # (out, in)


def branch(
    adapter: type[QLoRA] = QLoRA, shape: tuple[int, int] = SHAPE, **options: object
) -> Branch:
    given = {"dataset": DATASET, "rank": 8, "alpha": 4, **options}
    return adapter.model_validate(given).branch("model.layers.0.mlp.up_proj", shape)


def trained(made: Branch) -> Branch:
    """Give every parameter a value, as a training would."""
    torch.manual_seed(1)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize("adapter", [QLoRA, IRQLoRA])
def test_a_fresh_branch_adds_nothing(adapter: type[QLoRA]) -> None:
    assert not branch(adapter)(torch.randn(3, 5, 32)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [8, 5, 64], ids=["divides", "is prime to both", "is greater"])
@pytest.mark.parametrize("adapter", [QLoRA, IRQLoRA])
def test_what_is_folded_adds_the_same(adapter: type[QLoRA], rank: int, dtype: torch.dtype) -> None:
    made = trained(branch(adapter, rank=rank)).to(dtype)
    inputs = torch.randn(3, 5, 32, dtype=dtype)

    a, b = made.folded()

    plain = inputs @ a.T @ b.T * (4 / rank)
    assert plain.abs().max() > 1
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(made(inputs), plain, rtol=tolerance, atol=tolerance)


def test_connections_are_means_of_inputs_and_copies_for_outputs() -> None:
    made = branch(IRQLoRA, (6, 4), rank=2, alpha=2)
    assert isinstance(made, ElasticBranch)
    with torch.no_grad():
        made.a.zero_()
        made.averaged.fill_(1)
        made.copied.fill_(10)

    added = made(torch.tensor([[1.0, 3.0, 10.0, 20.0]]))

    assert added.tolist() == [[20, 20, 20, 150, 150, 150]]


@pytest.mark.parametrize(("columns", "width"), [(12, 4), (4, 12), (10, 4), (7, 3), (5, 5)])
def test_a_connected_matrix_spreads_means(columns: int, width: int) -> None:
    rows = torch.randn(3, columns, dtype=torch.float64)
    matrix = torch.randn(width, columns, dtype=torch.float64)

    product = rows @ connected(matrix, torch.tensor([0.5])).T

    torch.testing.assert_close(product, rows @ matrix.T + 0.5 * spread_means(rows, width))


@pytest.mark.parametrize("adapter", [QLoRA, IRQLoRA])
def test_it_is_added_in_place_as_elsewhere(adapter: type[QLoRA]) -> None:
    made, inputs, outputs = trained(branch(adapter)), torch.randn(5, 32), torch.randn(5, 48)

    expected = outputs + made(inputs)

    torch.testing.assert_close(made.onto(outputs, inputs), expected, rtol=1e-5, atol=1e-5)


def test_connections_learn_by_the_gradients_of_what_they_add() -> None:
    made = trained(branch(IRQLoRA, (6, 8), rank=2, alpha=2)).double()
    assert isinstance(made, ElasticBranch)
    inputs = torch.randn(5, 8, dtype=torch.float64)

    made(inputs).square().sum().backward()

    for number in (made.averaged, made.copied):
        either = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                number.add_(step)
                either.append(float(made(inputs).square().sum()))
                number.sub_(step)
        assert number.grad is not None
        assert float(number.grad) == pytest.approx((either[0] - either[1]) / 2e-6, rel=1e-6)


def test_matrices_are_drawn_by_the_seed_and_the_linears_name() -> None:
    adapter = QLoRA.model_validate({"dataset": DATASET, "rank": 8})

    first, again, other = (adapter.branch(name, SHAPE).a for name in ("q", "q", "k"))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    reseeded = adapter.model_copy(update={"seed": 1}).branch("q", SHAPE).a
    assert not torch.equal(first, reseeded)
    assert first.abs().max() <= 32**-0.5


def test_a_branch_begins_from_a_correction() -> None:
    correction = Correction(torch.randn(3, 32), torch.randn(48, 3), {})
    adapter = QLoRA.model_validate({"dataset": DATASET, "rank": 8, "alpha": 4})
    inputs = torch.randn(5, 32)

    made = adapter.branch("q", SHAPE, correction)

    torch.testing.assert_close(made(inputs), inputs @ correction.a.T @ correction.b.T)
    assert made.rank == 8
    assert made.a[3:].any()  # ranks to spare are there to be trained


def test_dropout_is_of_a_moment_and_not_of_the_connection() -> None:
    made = trained(branch(IRQLoRA, dropout=0.5))
    inputs = torch.randn(3, 5, 32)
    whole = made(inputs)

    made.moment = 1
    first, again = made(inputs), made(inputs)
    made.moment = 2
    other = made(inputs)
    with torch.no_grad():
        made.a.zero_()
    connection = made(inputs)
    made.moment = None

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, whole)
    torch.testing.assert_close(connection, made(inputs), rtol=1e-5, atol=1e-5)


def test_dropout_leaves_the_mean_of_the_inputs() -> None:
    made = branch(dropout=0.25)
    made.moment = 0

    kept = made._dropped(torch.ones(100, 32))

    assert torch.unique(kept).tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)


def test_a_branch_computes_in_its_inputs_dtype_with_float32_parameters() -> None:
    made = trained(branch(IRQLoRA))

    added = made(torch.randn(3, 32, dtype=torch.bfloat16))
    added.float().sum().backward()

    assert added.dtype == torch.bfloat16
    assert {each.grad.dtype for each in made.parameters() if each.grad is not None} == {
        torch.float32
    }
    assert all(each.grad is not None for each in made.parameters())
