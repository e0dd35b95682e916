"""What a process holds, and what stands in the way of its clock."""

import sys
from pathlib import Path

import pytest
import torch

from hubq.machine import meters
from hubq.machine.meters import Contention, available, held, peak

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


def test_a_containers_limit_counts_where_it_is_lower(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(meters, "CGROUP", tmp_path)

    assert available("cpu") == 2000


def test_a_container_without_a_limit_has_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(meters, "CGROUP", tmp_path)

    assert available("cpu") > 10_000_000


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
