"""What a plan needs that a machine lacks."""

from pathlib import Path

import pytest

from hubq.machine.published import GPUS, Published
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.stages.plan.shortages import (
    Free,
    by_blocks_on,
    free_here,
    on_gpu,
    shortages,
    states_on_disk,
)

CARDS = Path(__file__).parents[3] / "model_cards"
PLENTY = Free(10**15, 10**15, 10**15)


def plan_of(name: str, **changes: object) -> Plan:
    plan = Report.load(CARDS / f"SmolLM2-135M-Instruct-{name}" / "report.json").plan
    return plan.model_copy(update=changes)


def with_memory(size: float) -> Published:
    return GPUS["4090"]._replace(memory=size)


def test_nothing_is_said_where_all_fits(tmp_path: Path) -> None:
    assert shortages(plan_of("GPTQ-4bit"), PLENTY) == []
    assert shortages(plan_of("GPTQ-4bit"), Free(None, None, None)) == []
    assert shortages(plan_of("GPTQ-4bit"), free_here(tmp_path / "run")) == []


def test_states_lie_on_the_disk_twice() -> None:
    tokens = 32 * 512

    assert states_on_disk(plan_of("GPTQ-4bit", compute_dtype="bfloat16")) == 2 * tokens * 576 * 2
    assert states_on_disk(plan_of("DB-LLM-2bit", compute_dtype="bfloat16")) == 4 * tokens * 576 * 2
    assert states_on_disk(plan_of("RTN-4bit")) == 0


def test_each_thing_that_is_short_names_what_to_change() -> None:
    plan = plan_of(
        "GPTQ-4bit",
        compute_dtype="bfloat16",
        peak_memory=2 * 10**9,
        device_memory=3 * 10**9,
        hidden_states="device",
    )

    gpu, host, disk = shortages(plan, Free(10**9, 10**9, 10**8))

    assert gpu.startswith("quantizing needs 3.00 GB of GPU memory, and 1.00 GB are free: set ")
    assert "HUBQ_HIDDEN_STATES=host" in gpu
    assert "HUBQ_HIDDEN_STATES=disk" in host
    assert "--run" in disk


def test_what_has_no_states_to_move_is_not_told_to_move_them() -> None:
    (host,) = shortages(plan_of("RTN-4bit", peak_memory=2 * 10**9), Free(None, 10**9, None))

    assert host.endswith("use a machine with more memory")


def test_hidden_states_go_to_the_host_beside_a_gpu_that_is_too_small() -> None:
    plan = plan_of("GPTQ-4bit", compute_dtype="bfloat16")
    large = on_gpu(plan, GPUS["h100"])
    assert large.device_memory is not None
    small = on_gpu(plan, with_memory(large.device_memory - 1))

    assert (large.hidden_states, small.hidden_states) == ("device", "host")
    assert small.device_memory is not None
    assert small.device_memory < large.device_memory
    assert small.peak_memory > large.peak_memory


@pytest.mark.parametrize("name", ["RTN-4bit", "bitsandbytes-4bit"])
def test_what_needs_no_text_has_no_hidden_states_on_a_gpu_either(name: str) -> None:
    found = on_gpu(plan_of(name), GPUS["4090"])

    assert found.hidden_states is None
    assert found.device_memory


def test_a_model_that_a_gpu_cannot_hold_is_measured_block_by_block() -> None:
    plan = plan_of("GPTQ-4bit", parameters=8 * 10**9)

    assert by_blocks_on(plan, GPUS["4090"]) is None
    reason = by_blocks_on(plan.model_copy(update={"parameters": 70 * 10**9}), GPUS["4090"])
    assert reason == "the base needs 168.00 GB, and NVIDIA GeForce RTX 4090 has 24.00 GB"
