import pytest
import torch
from torch import Tensor

from hubq.tensors import packing

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8)
COUNTS = (1, 7, 8, 31, 32, 33, 96, 100)


def random_codes(rows: int, count: int, bits: int) -> Tensor:
    generator = torch.Generator().manual_seed(bits * 1000 + count)
    return torch.randint(0, 1 << bits, (rows, count), dtype=torch.uint8, generator=generator)


def bits_of_row(row: Tensor) -> int:
    """Read a row of words as one long little-endian number."""
    return sum((int(word) & 0xFFFFFFFF) << 32 * place for place, word in enumerate(row))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_what_is_unpacked_is_what_was_packed(bits: int, count: int) -> None:
    codes = random_codes(3, count, bits)

    packed = packing.pack(codes, bits)

    assert torch.equal(packing.unpack(packed, bits, count), codes)


@pytest.mark.parametrize("bits", WIDTHS)
def test_columns_pack_and_unpack_down_the_rows(bits: int) -> None:
    codes = random_codes(5, 37, bits).T

    packed = packing.pack_columns(codes, bits)

    assert packed.shape == (packing.words(37, bits), 5)
    assert torch.equal(packing.unpack_columns(packed, bits, 37), codes)


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_code_lies_at_its_place_in_the_bit_stream(bits: int) -> None:
    codes = random_codes(2, 100, bits)

    packed = packing.pack(codes, bits)

    for row, words in zip(codes.tolist(), packed, strict=True):
        stream = bits_of_row(words)
        assert [stream >> bits * i & (1 << bits) - 1 for i in range(100)] == row


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_bits_after_the_last_code_are_zero(bits: int) -> None:
    codes = torch.full((1, 33), (1 << bits) - 1, dtype=torch.uint8)

    (words,) = packing.pack(codes, bits)

    assert bits_of_row(words) == (1 << 33 * bits) - 1


@pytest.mark.parametrize("bits", WIDTHS)
def test_packing_leaves_its_input_alone(bits: int) -> None:
    codes = random_codes(2, 32, bits)
    before = codes.clone()

    packing.pack(codes, bits)

    assert torch.equal(codes, before)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_a_tensor_without_data_packs_to_the_same_shape(bits: int, count: int) -> None:
    codes = random_codes(3, count, bits)

    packed = packing.pack(codes.to("meta"), bits)

    assert packed.shape == packing.pack(codes, bits).shape
    assert packed.dtype == torch.int32


def test_rows_that_are_not_contiguous_pack_the_same() -> None:
    codes = random_codes(32, 6, 3).T

    packed = packing.pack(codes, 3)

    assert torch.equal(packed, packing.pack(codes.clone(memory_format=torch.contiguous_format), 3))
