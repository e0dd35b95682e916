"""What tests of the loops share: the loops for GPUs on a machine without one."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

TRITON_LOOPS = "hubq.tensors.kernels.triton_loops"


@pytest.fixture
def triton_loops(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function from a file's name to that file, imported anew and then forgotten.

    A kernel is interpreted if TRITON_INTERPRET is set when its file is imported. Triton itself is
    imported before that in any case, so that its own functions stay what they are for others.
    """
    pytest.importorskip("triton", reason="Triton has no wheel for this machine")
    for name in ("column_rounding", "sign_planes"):
        monkeypatch.delitem(sys.modules, f"{TRITON_LOOPS}.{name}", raising=False)
    return lambda name: importlib.import_module(f"{TRITON_LOOPS}.{name}")


@pytest.fixture
def interpreted(
    triton_loops: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ModuleType]:
    """Return the same, of kernels that are interpreted on the CPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    return triton_loops
