import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from serving import machine
from serving.machine import cores, gpu_memory, machine_memory, model_dtype, number_bytes


def test_without_a_limit_the_machine_has_all_of_its_memory(tmp_path: Path) -> None:
    found = machine_memory(tmp_path)

    assert found.total == psutil.virtual_memory().total
    assert 0 < found.free() < found.total


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 400000\ninactive_file 300000\n")

    found = machine_memory(tmp_path)

    assert (found.total, found.free()) == (1_000_000, 600_000)


def test_a_container_of_the_old_kind_has_what_its_limit_leaves(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("1000000\n")
    (folder / "memory.usage_in_bytes").write_text("700000\n")
    (folder / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 200000\n")

    assert machine_memory(tmp_path).free() == 500_000


def test_a_container_without_a_limit_is_the_machine(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")

    assert machine_memory(tmp_path).total == psutil.virtual_memory().total


def test_a_container_has_the_cores_of_its_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")

    assert cores(tmp_path) == 1


def test_a_container_without_a_quota_has_all_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")

    assert cores(tmp_path) == len(os.sched_getaffinity(0))


def test_a_gpu_is_measured_by_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '16384, 12000'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    found = gpu_memory()

    assert found is not None
    assert (found.total, found.free()) == (16384 * 2**20, 12000 * 2**20)
    assert not found.holds_processes


def test_a_driver_without_a_gpu_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

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
