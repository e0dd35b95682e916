"""What a process holds, and what stands in the way of its clock."""

import sys
from pathlib import Path

import psutil
import pytest
import torch

from hubq.machine import meters
from hubq.machine.meters import Contention, available, held, installed, peak

MEGABYTES = 100 << 20
PRECISION = 1 << 20  # bytes, of the kernel's counters


def test_a_tensor_is_held_until_it_is_freed_and_stays_in_the_peak() -> None:
    before = held("cpu")
    tensor = torch.ones(MEGABYTES, dtype=torch.uint8)
    during = held("cpu")

    del tensor

    assert during - before == pytest.approx(MEGABYTES, rel=0.2)
    assert held("cpu") < during
    assert peak("cpu") >= during - PRECISION


@pytest.fixture
def cgroup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the folder in which the kernel tells of a container; nothing is told at first."""
    monkeypatch.setattr(meters, "CGROUP", tmp_path)
    return tmp_path


def test_a_containers_limit_counts_where_it_is_lower_and_its_page_cache_is_free(
    cgroup: Path,
) -> None:
    (cgroup / "memory.max").write_text("1000000\n")
    (cgroup / "memory.current").write_text("700000\n")
    (cgroup / "memory.stat").write_text("anon 400000\ninactive_file 300000\n")

    assert (installed(), available("cpu")) == (1_000_000, 600_000)


def test_a_container_of_the_old_kind_tells_the_same_in_other_files(cgroup: Path) -> None:
    (cgroup / "memory").mkdir()
    (cgroup / "memory/memory.limit_in_bytes").write_text("1000000\n")
    (cgroup / "memory/memory.usage_in_bytes").write_text("700000\n")
    (cgroup / "memory/memory.stat").write_text("inactive_file 1\ntotal_inactive_file 200000\n")

    assert available("cpu") == 500_000


@pytest.mark.parametrize("limit", ["max", str(2**62), None])
def test_without_a_limit_a_container_has_what_the_machine_has(
    cgroup: Path, limit: str | None
) -> None:
    (cgroup / "memory.current").write_text("1000\n")
    if limit is not None:
        (cgroup / "memory.max").write_text(f"{limit}\n")

    assert installed() == psutil.virtual_memory().total
    assert 10_000_000 < available("cpu") < installed()


def threads(root: Path, **waited: int) -> None:
    """Say of each thread how many nanoseconds it waited."""
    for name, nanoseconds in waited.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "schedstat").write_text(f"123 {nanoseconds} 4\n")


def test_contention_is_the_share_that_the_slowest_thread_waited(tmp_path: Path) -> None:
    threads(tmp_path, first=500, second=1_000_000_000)
    contention = Contention(tmp_path)

    threads(tmp_path, first=500_000_500, second=1_100_000_000, new=400_000_000)

    assert contention.share(2.0) == 0.25


def test_a_system_that_does_not_tell_has_no_contention(tmp_path: Path) -> None:
    assert Contention(tmp_path / "nowhere").share(2.0) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_this_process_waits_for_a_share_of_its_time() -> None:
    share = Contention().share(1.0)

    assert share is None or 0 <= share <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_counts_its_tensors() -> None:
    before = held("cuda")
    tensor = torch.ones(MEGABYTES, dtype=torch.uint8, device="cuda")

    assert held("cuda") - before == pytest.approx(tensor.nbytes, rel=0.01)
    assert peak("cuda") >= held("cuda")
    assert available("cuda") > 0
