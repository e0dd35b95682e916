"""The memory and the joules of the GPU that CUDA would use, from a pretend driver."""

from types import SimpleNamespace

import pytest
import torch
from pretend_nvml import Gpu, PretendNvml

from hubq.machine.gpu import VISIBLE, memory
from hubq.machine.meters import meter

FIRST, SECOND = Gpu("GPU-aaaa-1", total=10, free=4), Gpu("GPU-bbbb-2", total=20, free=8)
DIVIDED = Gpu("GPU-cccc-3", total=80, free=70, slices=[Gpu("MIG-dddd-4", total=40, free=30)])


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, 10),
        ("0", 10),
        ("1", 20),
        ("1,0", 20),
        (" 1 , 0", 20),
        ("GPU-bbbb-2", 20),
        ("GPU-bbbb", 20),
        ("2", 40),  # CUDA takes the first slice of a GPU that is divided
        ("MIG-dddd-4", 40),
    ],
)
def test_the_memory_is_that_of_the_first_gpu_that_is_visible(
    visible: str | None, expected: int, nvml: PretendNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.gpus = [FIRST, SECOND, DIVIDED]
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)

    found = memory()

    assert found is not None
    assert found.total == expected


@pytest.mark.parametrize("visible", ["", "-1", "3", "NoDevFiles", "-1,0", "MIG-gone"])
def test_without_a_visible_gpu_there_is_no_memory_of_one(
    visible: str, nvml: PretendNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.gpus = [FIRST, SECOND, DIVIDED]
    monkeypatch.setenv(VISIBLE, visible)

    assert memory() is None


def test_a_gpu_that_shares_the_machines_memory_has_none_of_its_own(nvml: PretendNvml) -> None:
    nvml.gpus = [Gpu("GPU-shares", total=None)]

    assert memory() is None


def test_a_machine_without_the_driver_has_no_gpu() -> None:
    pytest.importorskip("pynvml")
    if torch.cuda.is_available():
        pytest.skip("there is a driver")

    assert memory() is None


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch say that it computes on the second GPU."""
    properties = SimpleNamespace(uuid="bbbb-2")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


@pytest.mark.usefixtures("current")
def test_joules_are_those_of_the_gpu_that_torch_computes_on(nvml: PretendNvml) -> None:
    nvml.gpus = [Gpu("GPU-aaaa-1", joules=5), counting := Gpu("GPU-bbbb-2", joules=100)]
    joules = meter("cuda")
    assert joules is not None

    counting.joules = 107.5

    assert joules() == 7.5


@pytest.mark.usefixtures("current")
@pytest.mark.parametrize("others", [[], [Gpu("GPU-bbbb-2", joules=None)]], ids=["gone", "old"])
def test_a_gpu_that_counts_no_joules_has_no_meter(others: list[Gpu], nvml: PretendNvml) -> None:
    nvml.gpus = others

    assert meter("cuda") is None
