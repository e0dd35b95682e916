"""GPUs by their published figures."""

import pytest

from hubq.errors import UserError
from hubq.machine.published import GPUS, published, rates_from


@pytest.mark.parametrize("name", ["4090", "RTX 4090", "rtx-4090"])
def test_a_gpu_is_found_by_the_names_that_people_use(name: str) -> None:
    assert published(name) is GPUS["4090"]


def test_another_gpu_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean h100"):
        published("h10")


@pytest.mark.parametrize("name", GPUS)
def test_rates_are_parts_of_what_the_maker_says_and_name_their_source(name: str) -> None:
    gpu = GPUS[name]
    found = rates_from(gpu)

    assert found.products["bfloat16"] < gpu.products
    assert found.products["float32"] < gpu.plain
    assert found.gram < gpu.products / 2  # TF32 runs at half the rate of 16 bits
    assert found.passed < gpu.bandwidth
    assert gpu.source in found.device
