"""A pretend accelerator: tensors that say they are on `pretend:0` while their data lie in RAM.

An operation that mixes them with CPU tensors raises, as it would on a GPU, and `numpy()` refuses;
so most mistakes about devices show on a machine without a GPU. Numbers are the CPU's, but of plain
kernels: where torch has a fused one for CPUs, such as attention's, they may differ by rounding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
# At import: autograd counts a process's devices at the first backward, and knows no later ones.
_setup_privateuseone_for_python_backend(NAME)
# Recomputing a block asks for autocast's state on any accelerator, even for CPU tensors.
getattr(torch, NAME).get_amp_supported_dtype = list
PLACE = f"{NAME}:0"
aten = torch.ops.aten
COPIES = frozenset({aten.copy_.default, aten._to_copy.default})
# CPU indices into a device's tensor are allowed, the reverse is not.
INDEXED = frozenset(
    {
        aten.index.Tensor,
        aten._unsafe_index.Tensor,
        aten.index_put.default,
        aten.index_put_.default,
        aten._index_put_impl_.default,
    }
)
Operation = Callable[..., Any]


class OnDevice(Tensor):
    """A tensor whose data are `held`, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls: type["OnDevice"], held: Tensor) -> "OnDevice":
        """Wrap a CPU tensor."""
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(PLACE),
        )
        made.held = held
        return made

    @property
    def data(self) -> Tensor:
        """The tensor without its history; setting it replaces what lies in RAM."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        assert isinstance(value, OnDevice), "a parameter's data stay on its device"
        assert (value.shape, value.dtype) == (self.shape, self.dtype)
        self.held = value.held

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, as a GPU's tensors do."""
        raise TypeError("can't convert a tensor of the pretend device to numpy; use .cpu() first")

    def tolist(self) -> Any:
        """Return the values: a device is waited for."""
        return self.cpu().tolist()

    def item(self) -> Any:
        """Return the only value."""
        return self.held.item()

    def __float__(self) -> float:
        return float(self.held)

    def __int__(self) -> int:
        return int(self.held)

    def __bool__(self) -> bool:
        return bool(self.held)

    def __index__(self) -> int:
        return int(self.held)

    def __repr__(self) -> str:  # type: ignore[override] # torch's has an argument of its own
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch's own is a placeholder
        cls,
        operation: Operation,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation that has such a tensor among its arguments."""
        return _run(operation, args, kwargs or {})


class Pretend(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, factories for the pretend device make its tensors."""

    def __torch_dispatch__(
        self,
        func: Operation,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run any operation."""
        return _run(func, args, kwargs or {})


@cache
def _registered() -> torch.device:
    """Teach torch's operations about the device, once in a process, and return it."""
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name, kernel in (
        ("empty_strided", _empty_strided),
        ("empty.memory_format", _empty),
        ("copy_", _copy),
        ("_to_copy", _to_copy),
    ):
        library.impl(name, kernel, "PrivateUse1")
    _LIBRARIES.append(library)  # its kernels go with it
    return torch.device(PLACE)


_LIBRARIES: list[Any] = []


@contextmanager
def pretending() -> Iterator[torch.device]:
    """Give the device, and let factories make its tensors inside the context."""
    device = _registered()
    with Pretend():  # type: ignore[no-untyped-call]
        yield device


def _empty_strided(
    size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype | None = None, **_: object
) -> Tensor:
    return OnDevice(torch.empty_strided(size, stride, dtype=dtype))


def _empty(size: Sequence[int], *, dtype: torch.dtype | None = None, **_: object) -> Tensor:
    return OnDevice(torch.empty(size, dtype=dtype))


def _copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    _held(target).copy_(_held(source))
    return target


def _to_copy(
    tensor: Tensor,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    **_: object,
) -> Any:
    return _run(aten._to_copy.default, (tensor,), {"dtype": dtype, "device": device})


def _run(operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run an operation on what lies in RAM; its result is where a GPU would have left it."""
    given = tensors([*args, *kwargs.values()])
    here = [each for each in given if isinstance(each, OnDevice)]
    if here:
        _refuse_mixed(operation, args, given)
    wanted = kwargs.get("device")
    target = None if wanted is None else torch.device(wanted).type
    options = {name: _held(each) for name, each in kwargs.items()}
    result = operation(*_held(args), **_on_cpu(options, target))
    if operation is aten.copy_.default:
        return args[0]
    if target == "cpu" or not (here or target == NAME):
        return result
    known = {id(each.held): each for each in here}  # of operations in place
    return _wrapped(result, known)


def _on_cpu(options: dict[str, Any], target: str | None) -> dict[str, Any]:
    """Say the CPU where an operation is asked to make a tensor on the pretend device."""
    if target == NAME:
        options["device"] = torch.device("cpu")
    return options | ({"pin_memory": False} if "pin_memory" in options else {})


def _refuse_mixed(operation: Operation, args: tuple[Any, ...], given: list[Tensor]) -> None:
    """Raise RuntimeError for what a GPU would refuse: tensors of two devices, numbers excepted."""
    if operation in COPIES:
        return
    apart = [each for each in given if not isinstance(each, OnDevice) and each.device.type == "cpu"]
    if operation in INDEXED and isinstance(args[0], OnDevice):
        apart = [each for each in tensors(args[2:3]) if not isinstance(each, OnDevice)]
    if any(each.dim() for each in apart):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{PLACE} and cpu! ({operation})"
        )


# torch's own walks through trees know every container, and take longer than the operations here,
# which have no others than these.
def tensors(value: object) -> list[Tensor]:
    """List the tensors among an operation's arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in tensors(each)]
    return []


def _held(value: Any) -> Any:
    if isinstance(value, OnDevice):
        return value.held
    return type(value)(map(_held, value)) if isinstance(value, list | tuple) else value


def _wrapped(value: Any, known: Mapping[int, OnDevice]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_wrapped(each, known) for each in value)
    if not isinstance(value, Tensor) or isinstance(value, OnDevice):
        return value
    return known[id(value)] if id(value) in known else OnDevice(value)
