"""Members as processes of this machine: one on a GPU, or as many as its memory holds.

A member ends soon after the process that started it, however that ended: it reads a pipe whose
other end that process holds (`hubq/cli/member.py`).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from hubq.machine.files import gigabytes
from hubq.stages.sweep.executor import Needs, Work

MODULE = "hubq.cli.member"
VISIBLE = "CUDA_VISIBLE_DEVICES"
CPU = "cpu"


class Capacity(NamedTuple):
    """What is free on this machine while no member works, in bytes."""

    memory: int
    gpus: Mapping[str, int]  # by how CUDA_VISIBLE_DEVICES names it


class Member:
    """A member in a process of its own, and in a session of its own: Ctrl-C is for its parent."""

    def __init__(self, work: Work, where: str, environment: Mapping[str, str], module: str) -> None:
        self.where, self.ended = where, False
        self.needs = work.needs
        # -P: a module in the user's folder that is named like a library must not be imported.
        command = [sys.executable, "-P", "-m", module, str(work.events), *work.words]
        with work.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the exit code once it has ended."""
        code = self.process.poll()
        if code is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.ended = True
        return code

    def stop(self) -> None:
        """Do what Ctrl-C does."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it; those that it started notice."""
        self.process.kill()


class LocalProcesses:
    """Processes of this machine that work with a Hub, by the environment that they get."""

    def __init__(
        self,
        capacity: Capacity,
        at_once: int,
        environment: Mapping[str, str],
        module: str = MODULE,
    ) -> None:
        self.capacity, self.module = capacity, module
        self.environment = dict(environment)
        if at_once > 1:
            threads = max(1, (os.cpu_count() or 1) // at_once)
            self.environment.setdefault("OMP_NUM_THREADS", str(threads))
        self.members: list[Member] = []

    @property
    def running(self) -> list[Member]:
        """Those of whose end nobody has heard."""
        self.members = [each for each in self.members if not each.ended]
        return self.members

    def why_never(self, needs: Needs) -> str | None:
        """Say what this machine hasn't enough of for a member alone."""
        if needs.memory > self.capacity.memory:
            lacks = "memory", needs.memory, self.capacity.memory
        elif needs.device_memory is not None and needs.device_memory > self._largest:
            lacks = "GPU memory", needs.device_memory, self._largest
        else:
            return None
        kind, needed, free = lacks
        return (
            f"it needs {gigabytes(needed)} of {kind}, and {gigabytes(free)} are free here: free "
            "memory, or use a machine with more of it (`hubq plan` says what takes less)"
        )

    @property
    def _largest(self) -> int:
        """The bytes that are free of the emptiest GPU."""
        return max(self.capacity.gpus.values(), default=0)

    def place_for(self, needs: Needs) -> str | None:
        """Name an idle GPU with room, or the CPU where memory is left beside those at work."""
        taken = sum(each.needs.beside for each in self.running)
        if self.running and taken + needs.beside > self.capacity.memory:
            return None
        if needs.device_memory is None:
            return CPU
        busy = {each.where for each in self.running}
        fits = (
            name
            for name, free in self.capacity.gpus.items()
            if name not in busy and free >= needs.device_memory
        )
        return next(fits, None)

    def start(self, work: Work, place: str) -> Member:
        """Start a member's process."""
        own = {} if place == CPU else {VISIBLE: place}
        member = Member(work, place, self.environment | own, self.module)
        self.members.append(member)
        return member
