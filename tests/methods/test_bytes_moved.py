"""What moves between devices while a layer is quantized that lies on another than the CPU."""

from typing import Any

import pytest
import torch
from pretend_device import tensors
from watched_operations import WatchedOperations

from hubq.methods import Group, Inputs, Layer, Method, method_class, methods

WIDE, ROWS, TOKENS = 1024, 64, 64  # a Gram matrix would be sixteen times the weight


class Transfers(WatchedOperations):  # type: ignore[no-untyped-call]
    """Counts the bytes of what operations take from another device than their result's."""

    def __init__(self) -> None:
        super().__init__(self.look)
        self.bytes = 0

    def look(self, _: str, args: tuple[Any, ...], result: Any) -> None:
        """Add up the arguments that lie elsewhere."""
        places = {each.device.type for each in tensors(result)}
        self.bytes += sum(each.nbytes for each in tensors(args) if places - {each.device.type})


def layer_on(device: torch.device, width: int) -> Layer:
    random = torch.Generator().manual_seed(0)
    energy = torch.logspace(-1, 1, width)[torch.randperm(width, generator=random)]
    inputs = torch.randn(TOKENS, width, generator=random) * energy
    size, gram = inputs.abs(), inputs.T @ inputs
    gram.diagonal().mul_(1.5)
    weight = torch.randn(ROWS, width, generator=random) / 10
    gram, mean, largest, sample = (
        each.to(device) for each in (gram, size.mean(0), size.amax(0), inputs)
    )
    return Layer(
        "model.layers.0.mlp.up_proj",
        weight.to(device),
        Inputs(TOKENS, gram, mean, largest, sample),
    )


def moved(method: Method, layer: Layer) -> float:
    """Return what moves while a method quantizes a layer, in float32 weights of the layer's."""
    with Transfers() as transfers:
        if method.folds:
            method.scale(Group((layer,)))
        method.quantize(layer)
    found: float = transfers.bytes / layer.weight.nbytes
    return found


@pytest.mark.parametrize("name", methods())
def test_at_most_twice_a_wide_layers_size_moves_between_devices(
    name: str, device: torch.device
) -> None:
    few = {"rounds": 1, "clips": 2, "passes": 1}  # each of them moves as much as the next
    kind = method_class(name)
    method = kind.model_validate({key: few[key] for key in few.keys() & kind.model_fields.keys()})

    found = moved(method, layer_on(device, WIDE))

    assert found <= 2


# Many groups for the width, so that the levels of all of them, sent for each block, would show.
@pytest.mark.parametrize(
    ("name", "options", "width"),
    [
        ("billm", {"group_size": 8, "rounds": 0}, 128),
        ("gptq", {"group_size": 2}, 256),
        ("pb_llm", {"group_size": 8, "rounds": 0}, 128),
        ("slim_llm", {"group_size": 2}, 256),
    ],
)
def test_a_layer_twice_as_wide_moves_hardly_more_for_each_weight(
    name: str, options: dict[str, int], width: int, device: torch.device
) -> None:
    method = method_class(name).model_validate(options)

    narrow, wide = (moved(method, layer_on(device, each)) for each in (width, 2 * width))

    assert wide <= 1.2 * narrow
