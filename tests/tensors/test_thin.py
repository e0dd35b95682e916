"""Quantized tensors in little memory."""

import pytest
import torch
from made_tensors import affine, binary, every_kind, same

from hubq.tensors import values
from hubq.tensors.thin import Packed, Thin, moved


@pytest.mark.parametrize("shape", [(3, 17), (8, 96)])
def test_every_kind_comes_back_as_it_was(shape: tuple[int, int]) -> None:
    for tensor in every_kind(shape):
        thin = Thin(tensor)

        assert same(thin.tensor(), tensor)
        assert thin.shape == tensor.shape
        assert torch.equal(thin.dequantize(torch.bfloat16), tensor.dequantize(torch.bfloat16))


@pytest.mark.parametrize(("bits", "stored"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_codes_take_as_many_bits_as_divide_a_byte(bits: int, stored: int) -> None:
    tensor = affine((64, 64), bits, 64, symmetric=True)

    assert Thin(tensor).nbytes == 64 * 64 * stored // 8 + tensor.scales.nbytes


def test_signs_take_a_bit_each() -> None:
    tensor = binary((64, 48), planes=2, mean=False)

    scales = [values(each).bfloat16() for each in tensor.scale]
    assert Thin(tensor).nbytes == 2 * 64 * 48 // 8 + sum(each.nbytes for each in scales)


def test_packing_knows_nothing_but_the_greatest_code() -> None:
    codes = torch.tensor([[3, 0, 1], [2, 3, 1]], dtype=torch.uint8)

    packed = Packed.of(codes)

    assert (packed.width, packed.bytes.nbytes) == (2, 2)
    assert torch.equal(packed.unpacked(), codes)
    assert Packed.of(codes + 1).width == 4


def test_parts_move_to_a_device_together(device: torch.device) -> None:
    for tensor in every_kind((4, 32)):
        there = moved(tensor, device)

        assert there.device.type == device.type
        assert torch.equal(Thin(there).dequantize(torch.float32).cpu(), tensor.dequantize())
