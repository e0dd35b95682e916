"""What a method takes to solve a block, by letting it solve some rows."""

import pytest
import torch

from hubq.machine.published import GPUS, rates_from
from hubq.methods import method_class
from hubq.stages.plan.solving import reckoned_seconds_a_block, seconds_a_block

CPU = torch.device("cpu")
BLOCK = [[(64, 64), (32, 64), (32, 64)], [(64, 64)], [(128, 64)] * 2, [(64, 128)]]


@pytest.mark.parametrize(
    ("name", "options"),
    [("rtn", {"group_size": 32}), ("awq", {"group_size": 32}), ("smoothquant", {})],
)
def test_a_method_is_timed_with_all_that_it_needs_of_the_inputs(
    name: str, options: dict[str, int]
) -> None:
    method = method_class(name).model_validate(options)

    assert seconds_a_block(method, BLOCK, torch.bfloat16, CPU) > 0


def test_wider_blocks_with_more_rows_take_longer_elsewhere() -> None:
    method, rates = method_class("gptq")(), rates_from(GPUS["h100"])
    wider = [[(2 * out, 2 * columns) for out, columns in shapes] for shapes in BLOCK]

    once, more = (reckoned_seconds_a_block(method, each, rates) for each in (BLOCK, wider))

    assert more > 2 * once
