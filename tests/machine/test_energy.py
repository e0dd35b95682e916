"""Joules from a made-up sysfs folder."""

from pathlib import Path

import pytest
import torch

from hubq.machine.meters import Packages, meter


def zone(powercap: Path, name: str, called: str, counter: int = 0) -> Path:
    """Make a zone as the kernel lays it out; its counter turns over at a second's 100 watts."""
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{called}\n")
    (folder / "energy_uj").write_text(f"{counter}\n")
    (folder / "max_energy_range_uj").write_text("100000000\n")
    return folder


def count(folder: Path, counter: int) -> None:
    (folder / "energy_uj").write_text(f"{counter}\n")


def test_all_packages_are_added_up(tmp_path: Path) -> None:
    zones = [zone(tmp_path, f"intel-rapl:{number}", f"package-{number}", 500) for number in (0, 1)]
    packages = Packages.found(tmp_path)
    assert packages is not None

    count(zones[0], 2_000_500)
    count(zones[1], 3_000_500)

    assert packages() == 5.0


def test_parts_of_a_package_and_the_whole_platform_do_not_count(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0")
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core"),
        zone(tmp_path, "intel-rapl:1", "psys"),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0"),
    ]
    packages = Packages.found(tmp_path)
    assert packages is not None

    for each in (package, *others):
        count(each, 7_000_000)

    assert packages() == 7.0


def test_a_counter_that_turned_over_goes_on(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 99_000_000)
    packages = Packages.found(tmp_path)
    assert packages is not None

    count(package, 1_000_000)
    first = packages()
    count(package, 500_000)

    assert first == 2.0
    assert packages() == 101.5


def test_a_machine_without_counters_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl").mkdir()

    assert Packages.found(tmp_path) is None
    assert Packages.found(tmp_path / "nowhere") is None


def test_a_counter_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0")
    (package / "energy_uj").unlink()
    (package / "energy_uj").mkdir()  # root may read any file, but no folder

    assert Packages.found(tmp_path) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_counter_grows() -> None:
    joules = meter("cuda")
    if joules is None:
        pytest.skip("NVML, or its counter, is missing here")

    product = torch.randn(4096, 4096, device="cuda")
    for _ in range(100):
        product = (product @ product).clamp(-1, 1)
    torch.cuda.synchronize()

    assert joules() > 0
