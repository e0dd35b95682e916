"""Which implementation runs where."""

import sys

import pytest
import torch

from hubq.tensors.kernels.choice import tool_for


def test_a_cpu_has_numba_and_a_gpu_has_triton_where_it_is_installed(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="Triton has no wheel for this machine")
    assert tool_for(torch.device("cpu")) == "numba"
    assert tool_for(torch.device("cuda", 1)) == "triton"
    assert tool_for(device) == ("triton" if device.type == "cuda" else "torch")

    monkeypatch.setitem(sys.modules, "triton", None)  # as if it were not installed

    assert tool_for(torch.device("cuda", 1)) == "torch"
