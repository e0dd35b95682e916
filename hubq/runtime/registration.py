"""Teach transformers the hubq format as soon as both are imported, whichever comes first.

`import hubq` must neither import transformers, which takes seconds, nor depend on being imported
before it. So where transformers' table of quantizers is not there yet, its import is watched.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

TABLE = "transformers.quantizers.auto"  # the module with transformers' table of quantizers


def register_with_transformers() -> None:
    """Register the quantizer now if transformers is there, and else as soon as it is."""
    if TABLE in sys.modules:
        _register()
    elif not any(isinstance(finder, Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, Watch())


class Watch:
    """A finder that finds nothing itself, but sees when the table's module is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Let the table's module be followed by the registration; leave all others alone."""
        if name != TABLE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register() -> None:
    """Import the quantizer, which registers itself; it may be what imports the table just now."""
    import_module("hubq.runtime.quantizer")
