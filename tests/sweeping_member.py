"""A member of a sweep that does little: `python -m sweeping_member EVENTS HOW FOLDER`.

`evaluate` and `publish` get a recipe and --run RUN as the real commands do, and note their names in
RUN; there `evaluate` is refused where a file says so.

It notes in FOLDER that it began, and then: `well` ends, `fails` is refused, `busy` is refused by
what passes by itself, until it has begun often enough, `long` works until it is interrupted or its
parent is gone, which it notes too.
"""

import signal
import sys
import threading
import time
from pathlib import Path

from hubq.cli.member import end_with_parent
from hubq.stages.sweep.news import Telling

OFTEN = 3


def main() -> int:
    events, how, *words = sys.argv[1:]
    folder, telling = Path(words[-1]), Telling(Path(events))
    if how in ("evaluate", "publish"):
        with (folder / "did").open("a") as did:
            did.write(f"{how} ")
        return int((folder / "refused").exists())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=end_with_parent, daemon=True).start()
    with (folder / "began").open("a") as began:
        began.write("x")
    try:
        with telling.task("Working", 10) as advance:
            if how == "long":
                time.sleep(60)
            advance(5)
    except KeyboardInterrupt:
        (folder / "interrupted").touch()
        return 130
    if how == "fails":
        telling.ended(1, "the recipe is wrong", passes=False)
    elif how == "busy" and len((folder / "began").read_text()) < OFTEN:
        telling.ended(1, "the Hub is busy", passes=True)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
