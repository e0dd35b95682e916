"""How fast a device is: timed once, kept, and measured anew where what is kept is damaged."""

from pathlib import Path

import torch

from hubq.machine.rates import kept, rates_of

CPU = torch.device("cpu")
WIDTHS = (64, 128)


def test_every_rate_is_timed_and_the_dtypes_are_those_that_models_run_in() -> None:
    found = rates_of(CPU, WIDTHS)

    assert set(found.products) == set(found.attention) == {"bfloat16", "float32"}
    rates = (*found.products.values(), *found.attention.values(), found.gram, found.passed)
    assert all(rate > 1e6 for rate in (*rates, found.files))
    assert found.transferred is None


def test_what_was_measured_is_kept_until_something_else_is_asked() -> None:
    counted: list[int] = []

    def measure() -> int:
        counted.append(1)
        return len(counted)

    assert [kept(["a device"], measure), kept(["a device"], measure)] == [1, 1]
    assert kept(["another"], measure) == 2


def test_a_damaged_file_is_measured_anew(own_cache: Path) -> None:
    kept(["a device"], lambda: 1)
    (file,) = (own_cache / "machine").glob("*.json")
    file.write_text("{")

    assert kept(["a device"], lambda: 2) == 2
    assert file.read_text() == "2"
