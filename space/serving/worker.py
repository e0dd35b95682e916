"""The process that holds one model: `python -m serving.worker JOB`, a Job as JSON.

Orders come as JSON lines on standard input, an empty line stops the one that runs; events go out on
standard output. The process ends with its input, so it never outlives the app.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Event as Flag
from threading import Thread
from typing import TextIO

from serving.messages import ORDERS, Event, Failed, Line, Order, Ready


class Job(Line):
    """The model of a worker and its limits."""

    folder: Path
    most_input: int
    most_tokens: int


class Inbox:
    """The orders of the parent, read while others are carried out."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._orders: Queue[str] = Queue()
        self._stop = Flag()
        Thread(target=self._read, daemon=True).start()

    def orders(self) -> Iterator[Order]:
        """Yield each order as it comes."""
        while True:
            yield ORDERS.validate_json(self._orders.get())

    def stopped(self) -> bool:
        """Tell whether the order that runs shall end."""
        return self._stop.is_set()

    def _read(self) -> None:
        for line in self._lines:
            if line.strip():
                self._stop.clear()
                self._orders.put(line)
            else:
                self._stop.set()
        os._exit(0)  # nobody listens any more, whatever runs


def main() -> int:
    """Load the model and carry out orders for ever; exit code 1 when it can't be loaded."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print is no event

    def say(event: Event) -> None:
        print(event.model_dump_json(), file=out, flush=True)

    inbox = Inbox(sys.stdin)
    job = Job.model_validate_json(sys.argv[1])

    from hubq.allocator import keep_freed_memory
    from hubq.errors import UserError
    from serving.loaded_model import Voice
    from serving.run_request import carry_out

    keep_freed_memory()
    try:
        voice = Voice.load(job.folder)
    except UserError as error:
        say(Failed(text=str(error)))
        return 1
    say(Ready())
    for order in inbox.orders():
        for event in carry_out(voice, order, job.most_input, job.most_tokens, inbox.stopped):
            say(event)
    return 0


if __name__ == "__main__":
    sys.exit(main())
