"""The list of all checks, and what runs one: PYTHONPATH=bench python -m gpu.checks CHECK FOLDER"""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gpu.findings import Finding

if TYPE_CHECKING:
    from gpu.models import Setting

Check = Callable[["Setting"], Iterator[Finding]]
# By their importance, since the time may be over: a module, and its function of the same name.
CHECKS = ("methods", "loops", "evaluation", "decoding", "resuming", "blocks", "memory", "widths")


def check(name: str) -> Check:
    """Return the check of a name."""
    found: Check = getattr(import_module(f"gpu.{name}"), name)
    return found


def main() -> None:
    """Carry out a check here, and print each finding as it comes."""
    from gpu.models import Setting

    name, folder = sys.argv[1:]
    for finding in check(name)(Setting.here(Path(folder))):
        print(finding.line(), flush=True)


if __name__ == "__main__":
    main()
