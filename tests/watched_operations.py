"""A mode in which each operation of torch is shown to a test, with its arguments and its result."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class WatchedOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls `note(name, args, result)`, the name without its overload, such as aten::index_add_."""

    def __init__(self, note: Callable[[str, tuple[Any, ...], Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run any operation, and show it."""
        result = func(*args, **kwargs or {})
        self.note(func.name().partition(".")[0], args, result)
        return result
