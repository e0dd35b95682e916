"""How long a plan will take: counted of the model's shapes, and held to what reports measured."""

from pathlib import Path

import pytest

from hubq.machine.published import GPUS, rates_from
from hubq.machine.rates import Rates
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.stages.plan.forecast import Forecast, forecast, shape_of

CARDS = Path(__file__).parents[3] / "model_cards"
CARD = "SmolLM2-135M-Instruct-{}"
# As timed on the machine of these reports: one thread of an Intel Xeon with AVX512-BF16 and AMX.
XEON = Rates(
    device="Intel(R) Xeon(R) Processor, 1 thread",
    products={"bfloat16": 543e9, "float32": 122e9},
    attention={"bfloat16": 111e9, "float32": 51e9},
    gram=309e9,
    passed=17e9,
    files=300e6,
)


def report(name: str) -> Report:
    return Report.load(CARDS / CARD.format(name) / "report.json")


def plan_of(name: str, **changes: object) -> Plan:
    """Return the plan of a report, with changes of what its recipe measures."""
    plan = report(name).plan
    evaluate = plan.recipe["evaluate"] | changes
    return plan.model_copy(update={"recipe": plan.recipe | {"evaluate": evaluate}})


def expected(plan: Plan, solving: float = 0.0) -> Forecast:
    return forecast(plan, XEON, lambda _: solving, "cpu")


def test_the_shape_is_that_of_the_model() -> None:
    shape = shape_of(plan_of("GPTQ-4bit"))

    assert (shape.blocks, shape.hidden, shape.vocabulary) == (30, 576, 49152)
    assert shape.inputs == [576, 576, 576, 1536]
    assert shape.weights == 2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576


@pytest.mark.parametrize("name", ["AWQ-4bit", "BiLLM-1.1bit", "GPTQ-4bit", "PB-LLM-2bit"])
def test_what_a_quantization_took_was_expected_within_30_percent(name: str) -> None:
    measured = report(name).checkpoint
    solving = measured.seconds_by_part["solving"] / 30  # a block's

    parts = dict(expected(plan_of(name), solving).stages["quantize"])
    parts.pop("start")  # the reports' seconds are without it

    assert sum(parts.values()) == pytest.approx(measured.seconds, rel=0.3)
    assert parts["forward"] == pytest.approx(measured.seconds_by_part["forward"], rel=0.3)


@pytest.mark.parametrize("name", ["GPTQ-4bit", "SmoothQuant-8bit", "bitsandbytes-4bit"])
def test_what_the_measurements_took_was_expected_within_30_percent(name: str) -> None:
    parts = dict(expected(plan_of(name)).stages["evaluate"])
    parts.pop("efficiency")  # the reports' seconds are without these two
    parts.pop("start")

    assert sum(parts.values()) == pytest.approx(report(name).seconds, rel=0.3)


def test_only_what_a_recipe_asks_for_takes_time() -> None:
    nothing = plan_of("RTN-4bit", perplexity=[], tasks=[], efficiency=None)

    found = expected(nothing).stages

    assert set(found["evaluate"]) == {"start"}
    assert set(found["quantize"]) == {"start", "reading and writing", "solving"}


def test_twice_the_windows_take_twice_as_long() -> None:
    once = plan_of("GPTQ-4bit")
    (text,) = once.recipe["evaluate"]["perplexity"]
    twice = plan_of("GPTQ-4bit", perplexity=[text | {"windows": 2 * text["windows"]}])

    before, after = (expected(each).stages["evaluate"]["perplexity"] for each in (once, twice))

    assert after == pytest.approx(2 * before)


def test_training_takes_longer_than_all_else() -> None:
    parts = expected(plan_of("DB-LLM-2bit"), solving=0.6).stages["quantize"]

    assert parts["tuning"] > sum(parts.values()) / 2


def test_a_faster_gpu_takes_less_time() -> None:
    plan = plan_of("GPTQ-4bit")
    slow, fast = (
        forecast(plan, rates_from(GPUS[name]), lambda _: 0.0, "cuda") for name in ("l4", "h100")
    )

    assert fast.seconds < slow.seconds
