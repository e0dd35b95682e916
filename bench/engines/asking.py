"""An engine's process: it answers one request after another, and ends with the context."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

from hubq.errors import UserError

PATIENCE = 1200.0  # seconds for one model


class Asked:
    """A process that answers."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        """Wait until it is there. Raises UserError where it can't start."""
        self.process = process
        self._log = log
        self.version: str = self._line()["version"]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what it answers; raise UserError where it refuses, in its words, or ends."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        timer = Timer(PATIENCE, os.killpg, (self.process.pid, signal.SIGKILL))
        timer.start()
        try:
            lines = (each for each in self.process.stdout if each.startswith("{"))
            line = next(lines, "")  # libraries print too while they are imported
        finally:
            timer.cancel()
        if not line:
            said = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise UserError(f"it ended: {said or 'without a word'}")
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise UserError(answer["refused"])
        return answer


@contextmanager
def asked(python: Path, script: Path, log: Path) -> Iterator[Asked]:
    """Start a script under a python; end it, and what it started, with the context."""
    kept = {key: each for key, each in os.environ.items() if key not in ("PYTHONPATH", "HF_TOKEN")}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**kept, "HF_HUB_OFFLINE": "1"},
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Asked(process, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
