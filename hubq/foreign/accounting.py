"""Which tensors a quantized folder's architecture has, to compare with those that are there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hubq.errors import UserError
from hubq.sources import skeleton
from hubq.sources.architecture import FAMILIES

Shapes = Mapping[str, tuple[int, ...]]
FAULTS = (*skeleton.FAULTS, SafetensorError)  # at a config, or at tensors


def shapes_of(folder: Path, config: Mapping[str, Any], tensors: int) -> Shapes | None:
    """Return the shape of each tensor of the model that a config describes, none of them quantized.

    None for an architecture that hubq does not know. Raises UserError for a config that makes no
    model, or more layers than the folder has `tensors` for.
    """
    names, blocks = config.get("architectures"), config.get("num_hidden_layers")
    if not (isinstance(names, list) and names and names[0] in list(FAMILIES)):
        return None
    if type(blocks) is not int or blocks > tensors:
        raise UserError(
            f"{folder}: config.json says num_hidden_layers: {str(blocks)[:80]}, and there are "
            f"{tensors} tensors; fetch the model again"
        )
    try:
        model = skeleton.without_weights(config)
    except FAULTS as error:
        raise UserError(
            f"{folder}: config.json makes no {names[0]} ({type(error).__name__}: "
            f"{str(error)[:300]}); fetch the model again"
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
