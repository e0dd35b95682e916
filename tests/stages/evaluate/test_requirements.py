"""Budgets: what is said of a result that misses them, and of what nobody would measure."""

from pathlib import Path
from typing import Any, Literal

import pytest
from made_measurements import FIDELITY, OVERALL
from made_run import made_plan, made_report, make_run, measurement
from unloaded import publish

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.records.report import Interval, LeftOut, Report
from hubq.stages.evaluate.requirements import refuse_unmet, unmet
from hubq.stages.plan.conditions import refuse_unmeasured, refuse_unreachable


def requiring(**budgets: float) -> Report:
    """Return a report of a plan with these budgets."""
    plan = made_plan()
    plan.recipe["evaluate"]["require"] = budgets
    return made_report(plan=plan, overall=OVERALL, fidelity=FIDELITY)


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        (
            {"recovery": 0.96},
            "recovery is 95.6 % (93.0 to 98.0) of the base's mean accuracy, but 96.0 % is required",
        ),
        (
            {"perplexity_ratio": 1.1},
            "perplexity on xsum is 1.139 times the base's (29.58 and 25.97), "
            "but at most 1.100 is allowed",
        ),
        (
            {"divergence": 0.05},
            "mean KL divergence is 0.05120 nats on xsum, but at most 0.05000 is allowed",
        ),
        (
            {"stored_bits": 4.25},
            "the quantized linears store 4.312 bits per weight, but at most 4.250 is allowed",
        ),
    ],
    ids=lambda value: "",
)
def test_an_unmet_budget_is_said_with_its_figures(budget: dict[str, float], sentence: str) -> None:
    assert unmet(requiring(**budget)) == [sentence]


@pytest.mark.parametrize(
    "budget",
    [{"recovery": 0.956}, {"perplexity_ratio": 1.14}, {"divergence": 0.06}, {"stored_bits": 4.32}],
    ids=str,
)
def test_a_budget_that_is_kept_is_not_mentioned(budget: dict[str, float]) -> None:
    assert unmet(requiring(**budget)) == []


def test_a_recipe_without_budgets_has_none_to_miss() -> None:
    assert unmet(made_report()) == []


def test_a_budget_that_chance_may_have_broken_is_said_to_be_so() -> None:
    noisy = measurement(difference=Interval(value=3.61, low=-0.1, high=7))
    report = requiring(perplexity_ratio=1.1).model_copy(update={"measurements": (noisy,)})

    assert "a difference within the noise" in unmet(report)[0]


def test_what_was_not_measured_does_not_count_as_kept() -> None:
    nothing = {"measurements": (), "overall": None, "fidelity": None}
    report = requiring(recovery=0.9, perplexity_ratio=2, divergence=1).model_copy(update=nothing)

    said = unmet(report)

    assert len(said) == 3
    assert all("not measured" in each for each in said)


def test_all_unmet_budgets_are_refused_at_once() -> None:
    with pytest.raises(UserError) as refused:
        refuse_unmet(requiring(recovery=0.99, stored_bits=4))

    said = str(refused.value)
    assert "acme/Tiny-Llama-GPTQ-4bit is not published" in said
    assert "\n  recovery is" in said
    assert "\n  the quantized linears store 4.312 bits" in said


def test_publish_sends_nothing_of_a_result_that_misses_its_budget(tmp_path: Path) -> None:
    report = make_run(tmp_path)
    report.plan.recipe["evaluate"]["require"] = {"stored_bits": 4}
    nobody = Client(endpoint="http://127.0.0.1:9")

    with pytest.raises(UserError, match="but at most 4 is allowed"):
        publish(report, tmp_path, nobody)

    assert (tmp_path / "model").is_dir()


@pytest.mark.parametrize(
    ("section", "missing"),
    [
        ({"require": {"recovery": 0.9}}, ["recovery: no task is measured"]),
        (
            {"tasks": ["hubq_bbq"], "require": {"recovery": 0.9}},
            ["recovery: tasks about alignment are not part of the mean"],
        ),
        ({"require": {"perplexity_ratio": 2}}, ["perplexity_ratio: no text is named"]),
        ({"require": {"divergence": 1}}, ["divergence: it is measured on the first text"]),
        (
            {"fidelity": None, "require": {"divergence": 1, "recovery": 0.9}},
            ["recovery: no task", "divergence: evaluate.fidelity is off"],
        ),
    ],
    ids=lambda value: "",
)
def test_budgets_of_what_is_not_measured_are_all_refused(
    section: dict[str, Any], missing: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        refuse_unmeasured(EvaluateSection.model_validate(section))

    found = [line.partition("evaluate.require.")[2] for line in str(refused.value).splitlines()]
    assert len(found) == len(missing)
    assert all(line.startswith(each) for line, each in zip(found, missing, strict=True))


def test_budgets_of_what_is_measured_pass() -> None:
    section = {
        "perplexity": ["wikitext2"],
        "tasks": ["piqa"],
        "require": {"recovery": 0.9, "perplexity_ratio": 2, "divergence": 1, "stored_bits": 5},
    }

    refuse_unmeasured(EvaluateSection.model_validate(section))


def test_more_bits_than_are_allowed_are_refused_before_anything_is_computed() -> None:
    plan = made_plan()
    plan.recipe["evaluate"]["require"] = {"stored_bits": 4.2}

    with pytest.raises(UserError, match=r"at most 4\.200 .* this recipe will store 4\.312"):
        refuse_unreachable(plan)


def test_a_plan_within_its_budget_passes() -> None:
    plan = made_plan()
    plan.recipe["evaluate"]["require"] = {"stored_bits": 4.3}

    refuse_unreachable(plan)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("guessing", "recovery was not measured: the base itself is no better than guessing in a"),
        ("alignment", "recovery was not measured: tasks about alignment are not part of it"),
    ],
)
def test_a_recovery_without_a_mean_says_why_there_is_none(
    reason: Literal["guessing", "alignment"], said: str
) -> None:
    left_out = (LeftOut(accuracy="a", reason=reason),)

    report = requiring(recovery=0.9).model_copy(update={"overall": None, "left_out": left_out})

    assert unmet(report)[0].startswith(said)
