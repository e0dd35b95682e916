"""Where large tensors may wait, and how much of a GPU's memory is free."""

import os
from typing import TYPE_CHECKING, Literal, get_args

from hubq.errors import UserError

if TYPE_CHECKING:
    import torch

# In the memory of the device that computes; in the host's, beside a GPU; in a file.
Place = Literal["device", "host", "disk"]
VARIABLE = "HUBQ_HIDDEN_STATES"
SPARE = 1.2  # times the weights of a model that runs whole: memory for activations


def asked_place() -> Place | None:
    """Return where HUBQ_HIDDEN_STATES asks for hidden states; raise UserError for no place."""
    asked = os.environ.get(VARIABLE, "").strip()
    for place in get_args(Place):
        if asked == place:
            return place  # type: ignore[no-any-return] # typeshed types no members of a Literal
    if not asked:
        return None
    raise UserError(
        f"{VARIABLE} is {asked!r}: set it to device, host or disk, or leave it unset to use the "
        "GPU's memory where they fit and the host's where they don't"
    )


def free_memory(device: "torch.device") -> int | None:
    """Return the bytes that are free on a GPU; None for a CPU."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
