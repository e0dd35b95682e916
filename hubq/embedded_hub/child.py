"""The hub in a process of its own, which ends when the parent's pipe to it closes."""

import sys
import threading
from pathlib import Path

from hubq.embedded_hub.app import create_app
from hubq.embedded_hub.serving import make_server, run


def main(root: Path) -> None:
    """Serve a root on a free port until standard input ends."""
    app = create_app(root)
    server = make_server(app)

    def watch() -> None:
        # The pipe closes when the parent is done and also when it is killed.
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
    run(server, app.state.hub, "127.0.0.1", 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
