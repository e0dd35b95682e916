"""What every reader of a stranger's module does: take its tensors, and say what is wrong."""

from collections.abc import Mapping

import regex
import torch
from torch import Tensor

from hubq.errors import UserError

PATIENCE = 0.2  # seconds for one pattern and one name: some patterns take for ever


def fits(pattern: object, module: str) -> bool:
    """Tell whether a pattern of a config fits the beginning of a module's name, as re.match does.

    Raises UserError for what is no pattern, and for one that doesn't come to an end.
    """
    try:
        if not isinstance(pattern, str):
            raise TypeError("it is not a string")
        return regex.match(pattern, module, timeout=PATIENCE) is not None
    except (regex.error, TypeError, TimeoutError, RecursionError) as error:
        raise UserError(
            f"the quantization_config selects modules by the pattern {str(pattern)[:80]!r}, "
            f"which can't be used ({error or 'it does not finish'}): correct it in config.json, "
            "or fetch the model again"
        ) from error


def take(module: str, part: str, tensors: Mapping[str, Tensor], *dtypes: torch.dtype) -> Tensor:
    """Return a tensor of a module, which must be there and of one of these dtypes."""
    found = tensors.get(f"{module}.{part}")
    if found is None:
        raise UserError(
            f"{module} has no tensor {part}: the files are incomplete; fetch the model again"
        )
    if dtypes and found.dtype not in dtypes:
        raise UserError(
            f"{module}.{part} is {found.dtype}, not {' or '.join(map(str, dtypes))}: its "
            "config says another format"
        )
    return found


def matrix(module: str, part: str, tensors: Mapping[str, Tensor], *dtypes: torch.dtype) -> Tensor:
    """Return a tensor of a module that must be of one of these dtypes and have two dimensions."""
    found = take(module, part, tensors, *dtypes)
    if found.ndim != 2 or not found.numel():
        raise UserError(
            f"{module}.{part} has the shape {tuple(found.shape)}, which is not a matrix: the file "
            "is damaged; fetch the model again"
        )
    return found


def contradiction(module: str, said: str, found: str) -> UserError:
    """Return the error of a config that says one thing where the tensors show another."""
    return UserError(
        f"the quantization_config says {said}, but {module} {found}.\n"
        "One of them is wrong: correct the config if you know better, or fetch the model again"
    )


def require_finite(module: str, scale: Tensor) -> None:
    """Refuse scales that are no numbers."""
    if not torch.isfinite(scale.float()).all():
        raise UserError(
            f"the scales of {module} hold NaN or inf: the file is damaged; fetch the model again"
        )


def order_of(module: str, groups: Tensor, size: int) -> Tensor | None:  # (in,), each one's group
    """Return which column comes next when all are sorted by group; None if they are sorted.

    Raises UserError for an index that no weight could have been quantized with.
    """
    columns = groups.numel()
    if groups.ndim != 1 or groups.dtype not in (torch.int32, torch.int64):
        raise UserError(
            f"the index of groups of {module} is {groups.dtype} {tuple(groups.shape)}, not one "
            "number for each column: the file is damaged; fetch the model again"
        )
    sorted_groups = torch.arange(columns) // size
    if torch.equal(groups.long(), sorted_groups):
        return None
    count = -(-columns // size)
    least, most = int(groups.min()), int(groups.max())
    if least < 0 or most >= count:
        wrong = least if least < 0 else most
        raise contradiction(
            module, f"group_size: {size}", f"has a group {wrong} in its index, of 0 to {count - 1}"
        )
    order = torch.argsort(groups.long(), stable=True)
    if not torch.equal(groups.long()[order], sorted_groups):
        sizes = torch.bincount(groups.long(), minlength=count).tolist()
        odd = next(number for number in range(count) if sizes[number] != size)
        raise contradiction(
            module, f"group_size: {size}", f"has {sizes[odd]} columns in group {odd} of its index"
        )
    return order
