"""A member of a sweep: a command in a process that ends with the one that started it.

`python -m hubq.cli.member EVENTS COMMAND ...` tells in the file EVENTS how the command goes and how
it ended. Standard input is a pipe whose other end the parent holds; when that is gone, the command
is interrupted, as by Ctrl-C, and keeps what is finished.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import click

from hubq.stages.sweep.news import EVENTS, Telling

PATIENCE = 30.0  # seconds in which a command ends that was interrupted
INTERRUPTED = 130


def main() -> int:
    """Run the command; return its exit code."""
    path, *words = sys.argv[1:]
    os.environ[EVENTS] = path
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell may have had the first one ignored
        signal.signal(each, signal.default_int_handler)
    threading.Thread(target=end_with_parent, daemon=True).start()
    from hubq.cli import prepare_environment

    prepare_environment()
    return run(words, Telling(Path(path)))


def end_with_parent() -> None:
    """Interrupt this process once nobody holds the other end of standard input; end it then."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(PATIENCE)
    os._exit(INTERRUPTED)


def run(words: list[str], telling: Telling) -> int:
    """Run a command as `hubq` does, and tell how it ended."""
    from hubq.cli import cli

    try:
        code = cli.main(words, prog_name="hubq", standalone_mode=False)
    except click.ClickException as refusal:
        refusal.show()
        telling.ended(1, refusal.format_message(), passes=_passes(refusal))
        return 1
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    # Any other exception is a bug, whose traceback goes into the log.
    telling.ended(code or 0, "it was interrupted" if code else "", passes=False)
    return code or 0


def _passes(refusal: BaseException) -> bool:
    """Tell whether what stopped a command may pass by itself: a network, a busy Hub, a lock."""
    from hubq.client.retries import chain, is_transient
    from hubq.errors import PassingError

    held = any(isinstance(each, PassingError | BlockingIOError) for each in chain(refusal))
    return held or is_transient(refusal)


if __name__ == "__main__":
    sys.exit(main())
