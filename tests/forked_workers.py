"""The processes that measure or quantize, forked from one that this process has started."""

import psutil


def workers() -> list[psutil.Process]:
    """Find the forked workers: each is the child of a process that waits for it."""
    servers = [each for each in psutil.Process().children() if _is_ours(each)]
    waiting = [each for fork_server in servers for each in children(fork_server)]
    return [worker for each in waiting for worker in children(each)]


def _is_ours(process: psutil.Process) -> bool:
    """Tell what measures and quantizes from what the Space's models are forked from."""
    try:
        return any(part.endswith("forking.py") for part in process.cmdline())
    except psutil.Error:
        return False


def children(process: psutil.Process) -> list[psutil.Process]:
    """Return the children that have not ended; none of a process that ends just now."""
    try:
        return [each for each in process.children() if each.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []
