"""The same layer gives the same tensor on a GPU too: no sum there is taken in any order.

What a GPU adds up by atomic operations differs from run to run. No test on a CPU can see that, but
it can see which operations are asked for: those that torch.use_deterministic_algorithms lists.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from watched_operations import WatchedOperations

from hubq.methods import Group, Inputs, Layer, method_class, methods

UNORDERED = frozenset(
    {
        *("bincount", "histc", "index_add", "index_copy", "index_reduce", "put"),
        *("scatter_add", "scatter_reduce", "segment_reduce"),
    }
)


class Unordered(WatchedOperations):  # type: ignore[no-untyped-call]
    """Lists each operation whose result may differ from run to run on a GPU."""

    def __init__(self) -> None:
        super().__init__(self.look)
        self.found: list[str] = []

    def look(self, name: str, args: tuple[Any, ...], _: object) -> None:
        """Tell by an operation's name and, for some, its arguments."""
        bare = name.removeprefix("aten::").strip("_")
        accumulated = bare in ("index_put", "index_put_impl") and args[3:4] == (True,)
        summed = bare in ("cumsum", "cumprod") and args[0].is_floating_point()
        if bare in UNORDERED or accumulated or summed:
            self.found.append(bare)


def group_of_two() -> Group:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 128, generator=random) * torch.logspace(-1, 1, 128)
    size = inputs.abs()
    statistics = Inputs(400, inputs.T @ inputs, size.mean(0), size.amax(0), inputs[::4])
    weight = torch.randn(64, 128, generator=random) / 10
    first = Layer("model.layers.0.mlp.up_proj", weight, statistics)
    return Group((first, replace(first, name="model.layers.0.mlp.gate_proj", weight=weight / 2)))


@pytest.mark.parametrize("name", methods())
def test_a_method_asks_for_no_sum_in_any_order(name: str) -> None:
    kind = method_class(name)
    method = kind.model_validate({"group_size": 32} if "group_size" in kind.model_fields else {})
    group = group_of_two()

    with Unordered() as unordered:
        if method.folds:
            method.scale(group)
        results = method.quantize_group(group)

    assert len(results) == 2
    assert unordered.found == []


def test_a_sum_in_any_order_is_seen() -> None:
    twice = torch.tensor([1, 1])

    with Unordered() as unordered:
        torch.zeros(3).index_add_(0, twice, torch.ones(2))
        torch.zeros(3).index_put_((twice,), torch.ones(2), accumulate=True)
        torch.zeros(3)[twice] = 2
        torch.ones(3).cumsum(0)
        torch.ones(3).long().cumsum(0)

    assert unordered.found == ["index_add", "index_put", "cumsum"]
