"""The bytes that live on the pretend device, counted by its tensors' storages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pretend_device import OnDevice, tensors
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what operations inside leave on the pretend device, and the most at any time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.living: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = self.sum = 0  # bytes; the sum counts those too that died since they were made

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run any operation."""
        result = func(*args, **(kwargs or {}))
        for each in tensors(result):
            if isinstance(each, OnDevice):
                self._count(each)
        return result

    def _count(self, tensor: OnDevice) -> None:
        storage = tensor.held.untyped_storage()
        known = self.living.get(storage._cdata)
        if known is not None and _lives(known[0]):
            return
        self.living[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]
        self.sum += storage.nbytes()
        if self.sum > self.most:
            self.living = {key: each for key, each in self.living.items() if _lives(each[0])}
            self.sum = sum(size for _, size in self.living.values())
            self.most = max(self.most, self.sum)


def _lives(storage: StorageWeakRef) -> bool:
    return not storage.expired()  # type: ignore[no-untyped-call]
