"""That nothing depends on where matrices are cut: rows are independent in all that is cut."""

from collections.abc import Callable

import pytest
import torch
from made_tensors import every_kind, same
from torch import Tensor

from hubq.formats import format_named
from hubq.methods.solvers.clipping import search_clipping_range
from hubq.runtime import pieces
from hubq.runtime.pieces import in_pieces, row_pieces
from hubq.runtime.reading import restored, unpacked
from hubq.runtime.schemes import module_entry
from hubq.runtime.unpacking import LINE
from hubq.tensors import Affine, Codebook, Grid, QuantizedTensor, packing

CPU = torch.device("cpu")
ROWS, COLUMNS = 7, 48
# Of 7 rows of 48 weights: one at a time, three with a ragged last piece, and all in one.
SIZES = (1, 3 * COLUMNS + 5, ROWS * COLUMNS)


@pytest.fixture(params=SIZES)
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes pieces small from then on."""
    return lambda: monkeypatch.setattr(pieces, "IN_CACHE", request.param)


def flat() -> Codebook:
    """Return a codebook weight under scales whose groups run on over the ends of rows."""
    codes = torch.randint(0, 16, (ROWS, COLUMNS), dtype=torch.uint8)
    inner = torch.randint(0, 256, (ROWS, 3), dtype=torch.uint8)
    scale = Codebook(inner, torch.randn(256), torch.rand(1, 5), 8, 5, flat=True)
    return Codebook(codes, torch.randn(16), scale, 4, 16, offset=0.5)


def weight() -> Tensor:
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))


def test_pieces_are_all_rows_in_their_order(cut: Callable[[], None]) -> None:
    cut()

    found = [list(range(ROWS))[rows] for rows in row_pieces((ROWS, COLUMNS), CPU)]

    assert [row for piece in found for row in piece] == list(range(ROWS))
    assert len(found) == -(-ROWS // max(1, pieces.IN_CACHE // COLUMNS))


def test_a_gpu_has_pieces_of_its_own_size() -> None:
    shape = (4096, 14336)

    assert len(list(row_pieces(shape, torch.device("cuda")))) == 1
    assert len(list(row_pieces(shape, CPU))) > 100


def test_a_matrix_without_rows_or_columns_is_made_as_well() -> None:
    none, empty = torch.ones(0, 3), torch.ones(3, 0)

    assert in_pieces(lambda rows: none[rows], (0, 3), CPU).shape == (0, 3)
    assert in_pieces(lambda rows: empty[rows], (3, 0), CPU).shape == (3, 0)


def test_every_kind_stands_for_the_same_weight(cut: Callable[[], None]) -> None:
    tensors = [*every_kind((ROWS, COLUMNS)), flat()]
    whole = [each.dequantize() for each in tensors]
    halves = [each.dequantize(torch.bfloat16) for each in tensors]

    cut()

    for tensor, given, half in zip(tensors, whole, halves, strict=True):
        assert torch.equal(tensor.dequantize(), given), tensor
        assert torch.equal(tensor.dequantize(torch.bfloat16), half)
        assert torch.equal(given.bfloat16(), half)


def test_every_kind_is_packed_and_read_the_same(cut: Callable[[], None]) -> None:
    form = format_named("hubq")
    tensors = list(every_kind((ROWS, COLUMNS)))
    packed = [form.pack("linear", each) for each in tensors]

    cut()

    for tensor, given in zip(tensors, packed, strict=True):
        again = form.pack("linear", tensor)
        assert all(same(again[name], given[name]) for name in given)
        assert same(form.unpack("linear", given, form.config({"linear": tensor}, [])), tensor)
        assert torch.equal(read_by_the_loader(given, tensor), tensor.dequantize())


def read_by_the_loader(packed: dict[str, Tensor], tensor: QuantizedTensor) -> Tensor:
    entry, shape = module_entry(format_named("hubq").config({"linear": tensor}, []), "linear")
    own = {name.removeprefix("linear."): each for name, each in packed.items()}
    return restored(unpacked(entry, own, shape))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [31, 40, 2 * LINE, LINE + 9])
def test_streams_are_the_same(bits: int, count: int, cut: Callable[[], None]) -> None:
    codes = torch.randint(0, 1 << bits, (3, count), dtype=torch.uint8)
    rows, stream = packing.pack(codes, bits), packing.pack_stream(codes, bits)

    cut()

    assert torch.equal(packing.pack(codes, bits), rows)
    assert torch.equal(packing.pack_stream(codes, bits), stream)
    assert torch.equal(packing.unpack(rows, bits, count), codes)


@pytest.mark.parametrize("group_size", [-1, 16, 20])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_weight_is_fitted_the_same(
    group_size: int, symmetric: bool, cut: Callable[[], None]
) -> None:
    grid = Grid(3, group_size, symmetric)
    energy = torch.rand(COLUMNS)
    clipping = search_clipping_range(weight(), energy, grid, 10)
    fitted, plain = Affine.fit(weight(), grid, clipping), Affine.fit(weight().bfloat16(), grid)

    cut()

    again = search_clipping_range(weight(), energy, grid, 10)
    assert same(again, clipping)
    assert same(Affine.fit(weight(), grid, again), fitted)
    assert same(Affine.fit(weight().bfloat16(), grid), plain)


def test_each_side_is_clipped_the_same(cut: Callable[[], None]) -> None:
    tokens, grid = torch.randn(100, COLUMNS), Grid(3, 16)
    gram = tokens.T @ tokens
    found = search_clipping_range(weight(), gram, grid, 10, each_side=True)

    cut()

    assert same(search_clipping_range(weight(), gram, grid, 10, each_side=True), found)


@pytest.mark.parametrize("name", ["awq", "gptq", "compressed-tensors", "dense"])
def test_a_format_packs_and_reads_the_same(name: str, cut: Callable[[], None]) -> None:
    form = format_named(name)
    tensor = Affine.fit(torch.randn(32, 64), Grid(4, 16, symmetric=name == "gptq"))
    config = {"group_size": 16} | form.config({"linear": tensor}, [])
    given = form.pack("linear", tensor)
    read = form.unpack("linear", given, config)

    cut()

    again = form.pack("linear", tensor)
    assert all(torch.equal(again[part], given[part]) for part in given)
    assert same(form.unpack("linear", given, config), read)
