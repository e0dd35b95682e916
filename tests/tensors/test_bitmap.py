"""Bitmaps: whatever they hold comes back, and few ones take few bits."""

import math

import pytest
import torch

from hubq.runtime.unpacking import ALONG_ROWS, DOWN_COLUMNS, RAW, blocks_of, unpack_bitmap
from hubq.tensors.packing import bitmap_words, pack_bitmap

SHAPES = ((0, 5), (1, 1), (7, 13), (1, 64), (64, 64), (65, 127), (96, 520))


def some(shape: tuple[int, int], share: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(round(1000 * share) + shape[1])
    return torch.rand(shape, generator=generator) < share


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0, 0.001, 0.05, 0.3, 0.5, 0.97, 1])
def test_what_is_unpacked_is_what_was_packed(shape: tuple[int, int], share: float) -> None:
    flags = some(shape, share)

    packed = pack_bitmap(flags)

    assert torch.equal(unpack_bitmap(packed, shape), flags)
    assert len(packed) == bitmap_words(flags)


def test_flags_without_order_are_stored_raw() -> None:
    packed = pack_bitmap(some((64, 64), 0.5))

    assert int(packed[0]) == RAW
    assert len(packed) == 1 + 64 * 64 // 32


def test_few_ones_take_little_more_than_their_entropy() -> None:
    flags = some((512, 1024), 0.1)

    bits = 32 * len(pack_bitmap(flags)) / flags.numel()

    entropy = -0.1 * math.log2(0.1) - 0.9 * math.log2(0.9)
    assert entropy < bits < 1.08 * entropy


@pytest.mark.parametrize("kind", [ALONG_ROWS, DOWN_COLUMNS])
def test_ones_that_gather_in_lines_take_less_than_anywhere(kind: int) -> None:
    busy = some((1, 1024), 0.1)
    flags = some((512, 1024), 0.01) | (busy & some((512, 1024), 0.8))
    flags = flags if kind == DOWN_COLUMNS else flags.T.contiguous()

    packed = pack_bitmap(flags)

    anywhere = bitmap_words(flags.to("meta"), int(flags.sum()))
    assert int(packed[0]) == kind
    assert len(packed) < 0.6 * anywhere


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_an_estimate_is_close_where_ones_lie_anywhere(share: float) -> None:
    flags = some((512, 1024), share)

    estimated = bitmap_words(flags.to("meta"), int(flags.sum()))

    assert estimated == pytest.approx(bitmap_words(flags), rel=0.03)


def test_a_block_has_the_index_that_combinatorics_gives_it() -> None:
    places = [3, 17, 62]
    index = sum(math.comb(place, number) for number, place in enumerate(places, start=1))

    (block,) = blocks_of(torch.tensor([index]), torch.tensor([3]))

    assert int(block) == sum(1 << place for place in places)


def damaged_bitmaps() -> dict[str, torch.Tensor]:
    coded = pack_bitmap(some((64, 64), 0.05))
    assert int(coded[0]) != RAW
    unknown, endless, beyond = coded.clone(), coded.clone(), coded.clone()
    unknown[0], endless[1], beyond[-20:] = 3, 0, -1
    return {
        "no word": coded[:0],
        "an unknown kind": unknown,
        "runs of nothing": endless,
        "the end missing": coded[:-1],
        "a word too many": torch.cat([coded, coded[:1]]),
        "nothing but its kind": coded[:1],
        "an index beyond the last": beyond,
        "another dtype": coded.long(),
        "too few raw flags": torch.tensor([RAW, 1, 2], dtype=torch.int32),
    }


@pytest.mark.parametrize("damage", damaged_bitmaps())
def test_a_damaged_bitmap_is_refused(damage: str) -> None:
    packed = damaged_bitmaps()[damage]

    with pytest.raises(ValueError, match=r"bitmap|words"):
        unpack_bitmap(packed, (64, 64))
