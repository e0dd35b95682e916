"""What a machine ran out of: its disk or its memory, in one sentence with the way out."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hubq.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
# How libraries say that memory ran out: Python and numpy, torch on a GPU and on a CPU, cuBLAS.
OUT_OF_MEMORY = (
    *("MemoryError", "OutOfMemoryError", "CUDA out of memory", "CUDA error: out of memory"),
    *("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED"),
)


def explain(error: OSError) -> str:
    """Say what the operating system refused, and the way out."""
    if error.errno == errno.ENOMEM:
        return "this machine's memory ran out. Free memory, then run again to continue."
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in FULL:
        return f"no space left on the disk{where}. Make room, then run again to continue."
    return f"{error.strerror or error}{where}. Fix this, then run again to continue."


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, of this machine or of a GPU."""
    said = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in OUT_OF_MEMORY)
    )


def died_of_memory(code: int, log: str) -> bool:
    """Tell whether a process ended for want of memory, by its exit code and what it said last.

    The kernel kills what takes the last of the memory, and then it says nothing.
    """
    return code == -signal.SIGKILL or any(words in log for words in OUT_OF_MEMORY)


@contextmanager
def memory_for(doing: str, way_out: str) -> Iterator[None]:
    """Turn memory that runs out inside into a UserError that names what helps."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(out_of_memory(doing, way_out)) from error


def out_of_memory(doing: str, way_out: str) -> str:
    """Say that memory ran out while something was done, and what helps."""
    return f"{doing} ran out of memory: {way_out}"
