import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pretend_nvml import Gpu, PretendNvml

from hubq.machine import meters
from serving import machine
from serving.machine import cores, gpu_memory, machine_memory, model_dtype, number_bytes


def test_the_machine_has_what_its_container_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    monkeypatch.setattr(meters, "CGROUP", tmp_path)

    found = machine_memory()

    assert (found.total, found.free()) == (1_000_000, 300_000)


def test_a_container_has_the_cores_of_its_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")

    assert cores(tmp_path) == 1


def test_a_container_without_a_quota_has_all_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")

    assert cores(tmp_path) == len(os.sched_getaffinity(0))


def test_a_gpu_is_measured_by_its_driver(nvml: PretendNvml) -> None:
    nvml.gpus = [Gpu("GPU-1", total=16384 << 20, free=12000 << 20)]

    found = gpu_memory()

    assert found is not None
    assert (found.total, found.free()) == (16384 << 20, 12000 << 20)
    assert not found.holds_processes


def test_a_gpu_that_is_gone_has_nothing_free(nvml: PretendNvml) -> None:
    nvml.gpus = [Gpu("GPU-1", total=16, free=12)]
    found = gpu_memory()
    assert found is not None

    nvml.gpus = []

    assert found.free() == 0


def test_a_driver_without_a_gpu_is_none(nvml: PretendNvml) -> None:
    nvml.gpus = []

    assert gpu_memory() is None


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", 2), ("float32", 4)])
def test_a_number_takes_what_its_dtype_says(
    dtype: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_COMPUTE_DTYPE", dtype)

    assert number_bytes() == expected


@pytest.fixture
def _unasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("HUBQ_COMPUTE_DTYPE")
    machine._measured_dtype.cache_clear()
    yield
    machine._measured_dtype.cache_clear()


# Takes half a second, in which all of them ask.
@pytest.mark.usefixtures("_unasked")
def test_the_dtype_that_nobody_asks_for_is_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, program = tmp_path / "looks", tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho look >> {looks}\nsleep 0.5\necho float32\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    with ThreadPoolExecutor(4) as executor:
        found = {each.result() for each in [executor.submit(model_dtype) for _ in range(4)]}

    assert found == {"float32"}
    assert looks.read_text().split() == ["look"]
