"""Whether what is interpreted in other tests compiles for GPUs: that needs none."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

POINTERS = {"codes": "*u8"}  # the others are float32's
NUMBERS = {"columns": "i32", "out": "i32"}


@pytest.mark.parametrize("target", [("cuda", 80, 32), ("hip", "gfx942", 64)], ids=["cuda", "rocm"])
@pytest.mark.parametrize(
    "kernel",
    [
        ("column_rounding", {"rows": 64, "entries": 0}),
        ("column_rounding", {"rows": 64, "entries": 4}),
        ("sign_planes", {"rows": 64}),
    ],
    ids=["even", "tabled", "signs"],
)
def test_kernels_compile(
    kernel: tuple[str, dict[str, int]],
    target: tuple[Any, ...],
    triton_loops: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    name, constants = kernel
    round_rows = triton_loops(name).round_rows
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = POINTERS | NUMBERS | dict.fromkeys(constants, "constexpr")
    signature = {each: types.get(each, "*fp32") for each in round_rows.arg_names}

    compiled = triton.compile(
        ASTSource(round_rows, signature, constants),
        target=GPUTarget(*target),
        options={"num_warps": 2},
    )

    assert compiled.asm["cubin" if target[0] == "cuda" else "hsaco"]
