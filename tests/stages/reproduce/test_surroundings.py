"""What is not here as it was when a release was made, told one by one."""

import os
from pathlib import Path

import pytest
import torch
from made_run import made_checkpoint, made_plan, made_report

from hubq.errors import UserError
from hubq.records.lock import Lock
from hubq.records.report import Report
from hubq.stages.quantize.accounts import lock_of
from hubq.stages.reproduce.surroundings import as_made, refuse_others, remarks

HERE = lock_of(torch.device("cpu"))


def made_with(lock: Lock | None, **changes: object) -> Report:
    checkpoint = made_checkpoint({}).model_copy(update={"lock": lock, **changes})
    return made_report(checkpoint=checkpoint)


def told(report: Report) -> list[str]:
    return list(remarks(report, Path("again")))


def test_nothing_is_told_of_the_same_machine() -> None:
    report = made_with(HERE)

    assert told(report) == []
    refuse_others(report)


def test_another_kind_of_cpu_is_told() -> None:
    (remark,) = told(made_with(HERE.model_copy(update={"instructions": "NEON"})))

    assert remark.startswith("another kind of machine:")
    assert "NEON there" in remark


def test_more_threads_than_processors_are_told_and_not_used() -> None:
    report = made_with(HERE.model_copy(update={"threads": 4096}))

    (remark,) = told(report)

    assert remark.startswith(f"it was made on 4096 threads, and {os.cpu_count()} are used here")
    with as_made(report):
        assert torch.get_num_threads() == os.cpu_count()


def test_a_gpu_that_is_not_here_is_told() -> None:
    lock = HERE.model_copy(update={"device": "cuda", "instructions": "9.0"})

    (remark,) = told(made_with(lock, device="NVIDIA H200"))

    assert remark == "it was made on a GPU (NVIDIA H200), and there is none here"


def test_several_processes_are_told() -> None:
    report = made_with(HERE).model_copy(update={"plan": made_plan(processes=4)})

    (remark,) = told(report)

    assert remark.startswith("it was quantized by 4 processes together")


def test_packages_that_are_missing_or_others_are_refused_where_that_is_asked_for() -> None:
    packages = {**HERE.packages, "numpy": "0.1", "unheard-of": "7"}
    report = made_with(HERE.model_copy(update={"packages": packages}))

    with pytest.raises(UserError) as refused:
        refuse_others(report)

    lines = str(refused.value).splitlines()[1:]
    assert lines == [
        f"  numpy {HERE.packages['numpy']} here, 0.1 there",
        "  unheard-of not installed here, 7 there",
    ]


def test_threads_of_before_there_were_locks_are_read_from_the_devices_title(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    before = torch.get_num_threads()
    report = made_with(None, device="An old CPU, 1 thread")

    with as_made(report):
        inside = (torch.get_num_threads(), os.environ["CUDA_VISIBLE_DEVICES"])

    assert inside == (1, "")  # the release was made without a GPU
    assert (torch.get_num_threads(), os.environ["CUDA_VISIBLE_DEVICES"]) == (before, "3")
    assert any(each.startswith("the release is of before") for each in told(report))
