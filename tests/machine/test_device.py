"""Which dtype a model runs in: what the CPU is fast in, or what somebody asks for."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from hubq.errors import UserError
from hubq.machine.device import (
    DTYPES,
    VARIABLE,
    asked_dtype,
    compute_dtype,
    computing,
    fast_on_cpu,
    faster,
    measuring_dtype,
)

only_a_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="what a CPU is fast in")


@pytest.fixture
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)


def test_bfloat16_is_taken_where_its_product_is_clearly_faster() -> None:
    assert faster(in_bfloat16=1e-4, in_float32=4e-4).dtype == "bfloat16"
    assert faster(in_bfloat16=4e-4, in_float32=1e-4).dtype == "float32"
    assert faster(in_bfloat16=1e-4, in_float32=1e-4).dtype == "float32"


def test_the_reason_is_what_was_measured() -> None:
    reason = faster(in_bfloat16=4e-4, in_float32=1e-4).reason

    assert reason == "a product in bfloat16 takes 4 times as long as in float32 on this CPU"


def test_a_cpu_is_measured_once_so_that_its_choice_stays() -> None:
    threads = torch.get_num_threads()

    assert fast_on_cpu() == fast_on_cpu()
    assert torch.get_num_threads() == threads


# Takes 3 seconds: torch decides when it is imported which instructions it uses.
@pytest.mark.skipif(platform.machine() != "x86_64", reason="instructions of x86 are taken away")
def test_without_instructions_for_bfloat16_float32_is_taken() -> None:
    bare = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    code = "from hubq.machine.device import fast_on_cpu; print(fast_on_cpu().dtype)"

    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **bare}, capture_output=True, text=True
    )

    assert found.stdout.strip() == "float32", found.stderr


@pytest.mark.usefixtures("nobody_asks")
@pytest.mark.parametrize("stored", DTYPES)
def test_a_cpu_calibrates_in_what_it_is_fast_in_whatever_is_stored(stored: str) -> None:
    assert compute_dtype("cpu", stored) == fast_on_cpu().dtype


@pytest.mark.usefixtures("nobody_asks")
@pytest.mark.parametrize(
    ("stored", "expected"),
    [("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "bfloat16")],
)
def test_a_gpu_calibrates_in_16_bits_as_stored(stored: str, expected: str) -> None:
    assert compute_dtype("cuda", stored) == expected


@only_a_cpu
@pytest.mark.usefixtures("nobody_asks")
@pytest.mark.parametrize("stored", ["float16", "float32"])
def test_a_measurement_on_a_cpu_rounds_nothing_that_is_stored(stored: str) -> None:
    assert measuring_dtype(stored).dtype == "float32"


@only_a_cpu
@pytest.mark.usefixtures("nobody_asks")
def test_a_base_in_bfloat16_is_measured_in_what_the_cpu_is_fast_in() -> None:
    assert measuring_dtype("bfloat16") == fast_on_cpu()


@pytest.mark.parametrize("asked", DTYPES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_asked_for_overrules_the_machine(
    asked: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, asked)

    assert computing(device, "bfloat16") == (asked, "HUBQ_COMPUTE_DTYPE asks for it")
    assert measuring_dtype("float16").dtype == asked


def test_a_dtype_that_is_none_is_refused_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "fp32")

    with pytest.raises(UserError, match="'fp32': set it to bfloat16, float16 or float32"):
        asked_dtype()
