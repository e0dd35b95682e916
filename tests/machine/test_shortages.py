"""What ran out is told in one sentence, whoever noticed it."""

import errno
import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from hubq.errors import UserError
from hubq.machine.shortages import died_of_memory, explain, memory_for

HUGE = 1 << 60  # bytes


def on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def in_a_product() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.empty(HUGE, dtype=torch.uint8),
        lambda: np.empty(HUGE, dtype=np.uint8),
        lambda: bytearray(HUGE),
        on_a_gpu,
        in_a_product,
    ],
)
def test_whoever_asks_for_too_much_memory_the_way_out_is_told(work: Callable[[], object]) -> None:
    with pytest.raises(UserError) as raised, memory_for("reading", "read fewer pages"):
        work()

    assert str(raised.value) == "reading ran out of memory: read fewer pages"


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="a bug"), memory_for("reading", "read fewer pages"):
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("code", "log", "ran_out"),
    [
        (-9, "", True),
        (1, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate", True),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to", True),
        (1, "RuntimeError: [enforce] DefaultCPUAllocator: can't allocate memory: you", True),
        (1, "AssertionError: a bug", False),
        (-11, "", False),
    ],
)
def test_how_a_process_ended_tells_whether_memory_ran_out(
    code: int, log: str, ran_out: bool
) -> None:
    assert died_of_memory(code, log) == ran_out


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOMEM, "this machine's memory ran out. Free memory, then run again"),
        (errno.ENOSPC, "no space left on the disk (some/file). Make room, then run again"),
        (errno.EACCES, "Permission denied (some/file). Fix this, then run again"),
    ],
)
def test_what_the_system_refuses_is_told_with_the_way_out(number: int, said: str) -> None:
    error = OSError(number, os.strerror(number), "some/file")

    assert explain(error) == f"{said} to continue."
