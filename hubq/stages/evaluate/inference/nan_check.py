"""Find where a model's numbers stop being numbers, and say so."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hubq.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def refuse_non_finite(model: Any, ids: "Tensor", folder: Path) -> NoReturn:  # noqa: ANN401
    """Raise a UserError that names the first module whose output has a NaN or an infinity."""
    where = first_non_finite(model, ids)
    place = f"the first is in the output of {where}" if where else "in the loss alone"
    raise UserError(
        f"{folder} computes NaN or infinity ({place}). Its weights are damaged or overflow in "
        f"{model.dtype}.\n"
        "Use other weights; for a recipe, use more bits, another method or another base"
    )


def refuse_bad_windows(model: Any, windows: "Tensor", found: "Tensor", folder: Path) -> None:  # noqa: ANN401
    """Raise UserError, with the layer, for the first window whose numbers are not all finite.

    `windows` are (windows, length) token ids, `found` is (windows, ...): what came of each.
    """
    finite = found.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        first = int(finite.int().argmin())
        refuse_non_finite(model, windows[first : first + 1], folder)


def first_non_finite(model: Any, ids: "Tensor") -> str | None:  # noqa: ANN401
    """Run the model once more and return the first such module's name, innermost first."""
    import torch

    found: list[str] = []

    def watch(name: str) -> Any:  # noqa: ANN401 - a hook
        def look(module: Any, inputs: Any, output: Any) -> None:  # noqa: ANN401
            tensor = output[0] if isinstance(output, tuple) else output
            if not found and isinstance(tensor, torch.Tensor) and not tensor.isfinite().all():
                found.append(name)

        return look

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        with torch.inference_mode():
            model(input_ids=ids[:1], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None
