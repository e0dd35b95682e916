"""`make gpu` works without a GPU too, and fails where a check does."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu.__main__ import STARTED, main, rows_of, run, told
from gpu.checks import CHECKS, check
from gpu.findings import Finding, Row, at_most, equal, in_turn, within
from gpu.models import Setting

FAILING = Finding("size", "1", "2", ok=False)
ENVIRONMENT = dict(os.environ)


def says(text: str) -> list[str]:
    """Return a command that prints a text."""
    return [sys.executable, "-c", f"print({text!r})"]


def test_each_check_is_there() -> None:
    assert all(callable(check(name)) for name in CHECKS)


@pytest.fixture(autouse=True)
def one_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checks run one method: tests/stages/quantize/test_devices.py runs them all."""
    for name in ("methods", "blocks"):
        monkeypatch.setattr(f"gpu.{name}.runnable", lambda: (["gptq"], []))


@pytest.mark.parametrize("name", ["methods", "decoding"])
def test_a_check_passes_there(name: str, device: torch.device, tmp_path: Path) -> None:
    assert_passes(name, Setting(device, small=True, folder=tmp_path))


@pytest.mark.parametrize("name", ["loops", "evaluation", "blocks", "widths"])
def test_a_check_passes_on_a_cpu(name: str, tmp_path: Path) -> None:
    assert_passes(name, Setting(torch.device("cpu"), small=True, folder=tmp_path))


def assert_passes(name: str, setting: Setting) -> None:
    found = list(check(name)(setting))

    assert [one for one in found if one.ok is False] == []
    assert any(one.ok for one in found)


def test_what_fails_is_told_and_makes_the_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"one": says("noise\n" + Finding("speed").line()), "two": says(FAILING.line())}

    rows = list(run(commands, budget=600, environment=ENVIRONMENT))

    assert [row.finding for row in rows] == [Finding("speed"), FAILING]
    assert told(rows[:1]) == 0
    assert told(rows) == 1
    assert "1 FAILED: two size" in capsys.readouterr().out


def test_a_check_that_ends_in_an_error_has_failed() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit(3)"]

    (row,) = rows_of("one", command, 60, ENVIRONMENT)

    assert row.finding.ok is False
    assert "exit code 3" in row.finding.found


def test_what_breaks_has_failed_and_the_next_goes_on() -> None:
    def work(name: str) -> Iterator[Finding]:
        if name == "bad":
            raise RuntimeError("out of memory\nin detail")
        yield Finding(name)

    found = list(in_turn(["bad", "good"], work))

    assert [(one.name, one.ok) for one in found] == [("bad", False), ("good", True)]
    assert found[0].found == "RuntimeError: out of memory"


def test_what_found_no_time_is_told_as_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    endless = [sys.executable, "-c", "import time; time.sleep(600)"]

    stopped = list(rows_of("one", endless, 0.2, ENVIRONMENT))
    skipped = list(run({"two": endless}, STARTED / 2, ENVIRONMENT))

    assert [row.finding.verdict for row in stopped + skipped] == ["not run", "not run"]
    told(stopped + skipped)
    assert "2 NOT RUN: one the rest, two" in capsys.readouterr().out


def test_nothing_found_is_no_success() -> None:
    assert told([]) == 1


@pytest.mark.parametrize(
    ("compare", "good", "bad"),
    [
        (lambda found: within("", found, 2.0, 0.01), 2.01, 2.03),
        (lambda found: within("", found, 2.0, 0.01), 1.99, float("nan")),
        (lambda found: at_most("", found, 2.0, "GB"), 2.0, 2.1),
        (lambda found: equal("", found, [1]), [1], [2]),
    ],
)
def test_a_comparison_tells_good_from_bad(
    compare: Callable[[Any], Finding], good: object, bad: object
) -> None:
    assert compare(good).ok
    assert compare(bad).ok is False


def test_a_finding_comes_back_from_its_line() -> None:
    assert Finding.read(FAILING.line() + "\n") == FAILING
    assert Finding.read("something else") is None
    assert Row("size", FAILING, 1.0).finding.verdict == "FAILED"


def test_an_unknown_check_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "loop"])

    assert main() == 2
    assert "no check is called loop" in capsys.readouterr().out
