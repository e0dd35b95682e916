"""The hub in a process of its own, which ends when the parent's pipe to it closes."""

import sys
import threading
from pathlib import Path

from hubq.embedded_hub.serving import make_server, run


def main(root: Path) -> None:
    """Serve a root on a free port until standard input ends."""
    server = make_server(root, host="127.0.0.1", allow_remote=False)

    def watch() -> None:
        # The pipe closes when the parent is done and also when it is killed.
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
    run(server, root, "127.0.0.1", 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
