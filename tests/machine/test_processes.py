"""torchrun, as hubq starts it and as it is noticed."""

import os
import sys

import pytest
import torch

from hubq.errors import UserError
from hubq.machine.processes import start_together, started_together


class Became(Exception):  # noqa: N818 - what happens
    """Another program, in the place of this one."""


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(program: str, words: list[str]) -> None:
        assert program == sys.executable
        raise Became(*words)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.delenv("RANK", raising=False)


def test_it_becomes_torchrun_with_a_process_for_each_gpu(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS")

    with pytest.raises(Became) as became:
        start_together(2, ["quantize", "recipe.yaml", "--json"])

    assert " ".join(became.value.args).endswith(
        "-m torch.distributed.run --standalone --nproc-per-node=2 "
        "-m -- hubq quantize recipe.yaml --json"
    )
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_more_processes_than_gpus_are_refused(two_gpus: None) -> None:
    with pytest.raises(UserError, match="--gpus 3: torch finds 2 here"):
        start_together(3, [])


def test_processes_that_torchrun_started_start_no_others(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")

    assert started_together() == 2
    with pytest.raises(UserError, match="leave it out behind torchrun"):
        start_together(2, [])


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # of a scheduler

    assert started_together() == 1
