"""How long adapting takes, and whether a machine has room for it, by a plan's shapes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hubq.machine.published import GPUS
from hubq.machine.rates import Rates
from hubq.records.plan import Plan, PlannedAdaptation
from hubq.records.report import Report
from hubq.stages.plan.adapting_time import UNPACKED
from hubq.stages.plan.forecast import forecast
from hubq.stages.plan.shortages import Free, disk_needed, on_gpu, shortages

CARDS = Path(__file__).parents[3] / "model_cards"
WEIGHTS = 30 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576)
PARAMETERS = 1_000_000
# So that all of a training is products, or all of it is what memory passes.
COMPUTING = Rates(
    device="counting",
    products={"bfloat16": 1e12, "float32": 1e12},
    attention={"bfloat16": 1e30, "float32": 1e30},
    gram=1e30,
    passed=1e30,
    files=1e30,
)
PASSING = replace(COMPUTING, products={"bfloat16": 1e30, "float32": 1e30}, passed=1e9)


def plan_with(**adapt: Any) -> Plan:
    """Return a plan of SmolLM2 at 4 bits with an adapter."""
    plan = Report.load(CARDS / "SmolLM2-135M-Instruct-RTN-4bit" / "report.json").plan
    planned = PlannedAdaptation(
        name=adapt["name"],
        makes="adapter",
        repo="me/it",
        quantized="me/that",
        parameters=PARAMETERS,
        added_bits=0.1,
        bytes=4 * PARAMETERS,
        peak_memory=9 * 10**9,
        device_memory=3 * 10**9,
        compute_dtype="bfloat16",
    )
    recipe = plan.recipe | {"adapt": adapt, "evaluate": {"efficiency": None}}
    return plan.model_copy(update={"recipe": recipe, "adaptation": planned})


def qlora(**options: Any) -> Plan:
    taught = {"dataset": {"hub": "a/b"}, "steps": 100, "batch_size": 8, "held_out": 0}
    return plan_with(name="qlora", **{**taught, **options})


def parts(plan: Plan, rates: Rates) -> dict[str, float]:
    return dict(forecast(plan, rates, lambda _: 0.0, "cpu").stages["adapt"])


def test_a_training_is_three_passes_a_step_and_what_is_beside() -> None:
    found = parts(qlora(), COMPUTING)["training"]

    pairs = 100 * 8
    passes = 3 * pairs * (130 * 2 * WEIGHTS + 60 * 2 * 576 * 49152)
    beside = 4 * pairs * 130 * 2 * PARAMETERS
    assert found == pytest.approx((passes + beside) / 1e12)


def test_trained_scales_take_a_fourth_pass() -> None:
    scales = plan_with(name="peqa", dataset={"hub": "a/b"}, steps=100, batch_size=8, held_out=0)

    found = parts(scales, COMPUTING)["training"]

    passes = 3 * 800 * (130 * 2 * WEIGHTS + 60 * 2 * 576 * 49152)
    assert found == pytest.approx((passes + 800 * 130 * 2 * WEIGHTS) / 1e12)


def test_all_weights_are_unpacked_twice_for_each_part_of_a_batch() -> None:
    whole, halves = (
        parts(qlora(**options), PASSING)["training"] for options in ({}, {"at_once": 4})
    )

    assert halves - whole == pytest.approx(100 * 2 * WEIGHTS * UNPACKED / 1e9)


def test_pairs_of_tasks_are_as_long_as_their_questions() -> None:
    short = qlora(dataset={"tasks": ["hubq_siqa"]})
    long = qlora(dataset={"tasks": ["hubq_logiqa"]})

    assert parts(short, COMPUTING)["training"] < parts(long, COMPUTING)["training"] / 2


def test_a_correction_is_a_walk_and_solving_and_no_training() -> None:
    plan = plan_with(name="low_rank")
    text = {"dataset": {"hub": "a/b"}, "samples": 4, "length": 128}
    plan = plan.model_copy(update={"recipe": plan.recipe | {"calibration": text}})

    found = parts(plan, COMPUTING)

    assert set(found) == {"load", "forward", "statistics", "solving"}
    assert found["forward"] == pytest.approx(4 * 128 * 2 * WEIGHTS / 1e12)


def test_what_adapting_lacks_is_said_with_what_to_change() -> None:
    gpu, host = shortages(qlora(), Free(10**9, 8 * 10**9, 10**15))

    assert gpu.startswith(
        "adapting needs 3.00 GB of GPU memory, and 1.00 GB are free: lower adapt."
    )
    assert host.startswith("adapting needs 9.00 GB of memory, and 8.00 GB are free")


def test_a_training_that_can_go_on_takes_room_on_the_disk() -> None:
    without = qlora().model_copy(update={"adaptation": None})

    assert disk_needed(qlora()) - disk_needed(without) == (4 + 12) * PARAMETERS


def test_memory_on_a_gpu_elsewhere_is_counted_anew() -> None:
    found = on_gpu(qlora(rank=16), GPUS["4090"]).adaptation

    assert found is not None
    assert found.device_memory is not None
    assert 1e9 < found.device_memory != qlora().adaptation.device_memory  # type: ignore[union-attr]
    assert found.repo == "me/it"
