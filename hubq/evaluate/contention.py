"""Whether a clock ran while other processes held the cores: seconds then say little."""

from pathlib import Path

THREADS = Path("/proc/self/task")  # each with its schedstat: ns run, ns waited for a core, turns


class Contention:
    """How long the threads of this process wait for a core, from now on."""

    def __init__(self, threads: Path = THREADS) -> None:
        self.threads = threads
        self.before = self._waited()

    def share(self, seconds: float) -> float | None:
        """Return the share of some seconds for which the slowest thread waited; None: not told."""
        waited = [now - self.before.get(thread, 0) for thread, now in self._waited().items()]
        return min(1.0, max(waited) / 1e9 / seconds) if waited else None

    def _waited(self) -> dict[str, int]:
        """Read how long each thread has waited, in nanoseconds; nothing where it isn't told."""
        files = self.threads.glob("*/schedstat")
        return {file.parent.name: int(file.read_text().split()[1]) for file in files}
