"""A report in the terminal, whole."""

import pytest
from made_adaptation import adapted_report, adapting
from made_measurements import COST, EFFICIENCY, FIDELITY, OVERALL
from made_run import made_plan, made_report, measurement

from hubq.cli.reports import print_report
from hubq.records.report import Flips, Interval, Report

ACCURACY = {
    "metric": "acc_norm",
    "better": "higher",
    "base": 0.6812,
    "base_stderr": 0.0109,
    "value": 0.6758,
    "stderr": 0.0111,
}
MEASUREMENTS = (
    measurement(
        difference=Interval(value=3.61, low=3.2, high=4.02),
        recovery=Interval(value=0.878, low=0.86, high=0.89),
        paired=True,
    ),
    measurement(
        **ACCURACY,
        task="piqa",
        difference=Interval(value=-0.0054, low=-0.0211, high=0.0009),
        recovery=Interval(value=0.992, low=0.976, high=1.006),
        flips=Flips(lost=112, won=100, changed=301),
        paired=True,
    ),
    measurement(**ACCURACY, task="bbq", dimension="alignment", recovery=None),
    measurement(**ACCURACY, task="bbq_age", part_of="bbq", dimension="alignment", recovery=None),
)


def printed(capsys: pytest.CaptureFixture[str], report: Report) -> str:
    print_report(report)
    return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_report_is_a_table_by_dimension_and_what_it_costs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = made_report(
        measurements=MEASUREMENTS, overall=OVERALL, fidelity=FIDELITY, efficiency=EFFICIENCY
    )

    assert (
        printed(capsys, report)
        == """\
acme/Tiny-Llama-GPTQ-4bit compared with meta-llama/Meta-Llama-3-8B, on cpu (Imaginary 9000) in \
bfloat16
measured      base this model       difference      recovery
─────────────────────────────────────────────────────────────────────────────
knowledge
xsum         25.97      29.58            +3.61        87.8 %            worse
perplexity  ± 0.31     ± 0.37   +3.20 to +4.02  86.0 to 89.0
piqa        0.6812     0.6758           -0.005        99.2 %     within noise
acc_norm   ± 0.011    ± 0.011 -0.021 to +0.001 97.6 to 100.6 -112 +100 of 301

alignment
bbq         0.6812     0.6758         -0.00540                   within noise
acc_norm   ± 0.011    ± 0.011
↳ bbq_age   0.6812     0.6758         -0.00540                   within noise
acc_norm   ± 0.011    ± 0.011
± is the standard error; ranges are 95 % intervals; noise is a difference that
chance explains; - and + count answers lost and won.
recovery    95.6 % (93.0 to 98.0) of the base's mean accuracy: 0.6500 of 0.6800 (piqa acc_norm)
fidelity    KL divergence: mean 0.05120 nats, median 0.03000, 99th percentile 0.4000 (the base's \
own noise: not measured); same next token: 90.0 %; on 10 tokens of xsum
memory      on disk 0.10 GB (base 0.10 GB), loaded 1.00 GB (base 1.00 GB), at peak 2.00 GB (base \
2.00 GB)
speed       12.34 tokens per second (base 12.34), first token after 0.1200 s (base 0.1200 s), \
loaded in 1.200 s (base 1.200 s)
            1 x 64 tokens in, 32 out, transformers 5.2, bfloat16, 1 thread on Imaginary 9000"""
    )


def test_what_was_not_measured_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, made_report(measurements=()))

    assert "fidelity    not measured\nefficiency  not measured" in said


def test_a_missed_budget_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    report = made_report()
    report.plan.recipe["evaluate"]["require"] = {"stored_bits": 4}

    assert "budget      missed: the quantized linears store 4.312" in printed(capsys, report)


def test_times_on_a_busy_machine_are_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    busy = EFFICIENCY.model_copy(
        update={"base": COST.model_copy(update={"contention": 0.43, "joules_per_token": 2.0})}
    )

    assert "other programs used the cores 43.0 % of the time" in printed(
        capsys, made_report(measurements=(), efficiency=busy)
    )


def test_the_hosts_memory_is_said_beside_a_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    cost = COST.model_copy(update={"memory_host": 3_000_000_000})
    costs = EFFICIENCY.model_copy(update={"base": cost, "result": cost})

    said = printed(capsys, made_report(measurements=(), efficiency=costs))

    assert "of the host 3.00 GB (base 3.00 GB)" in " ".join(said.split())


def test_intervals_without_pairs_are_said_to_be_cautious(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unpaired = measurement(difference=Interval(value=3.6, low=2, high=5))

    said = printed(capsys, made_report(measurements=(unpaired,)))

    assert "independent, which overstates the noise." in " ".join(said.split())


def test_an_adapted_model_stands_beside_the_base_and_itself_unadapted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = made_report(plan=adapting(made_plan()), measurements=MEASUREMENTS[:2])
    gain = [
        MEASUREMENTS[0].model_copy(
            update={"base": 31.2, "difference": Interval(value=-1.62, low=-1.9, high=-1.3)}
        ),
        MEASUREMENTS[1],
    ]
    adapted = adapted_report(report)
    gained = adapted.gained.model_copy(update={"measurements": tuple(gain)})

    said = printed(capsys, adapted.model_copy(update={"gained": gained}))

    assert (
        "\n".join(said.splitlines()[:8])
        == """\
acme/Tiny-Llama-GPTQ-4bit-low-rank compared with meta-llama/Meta-Llama-3-8B, on cpu (Imaginary \
9000) in bfloat16
measured      base quantized adapted           gained
──────────────────────────────────────────────────────────────────────
knowledge
xsum         25.97     31.20   29.58            -1.62           better
perplexity  ± 0.31    ± 0.31  ± 0.37   -1.90 to -1.30
piqa        0.6812    0.6812  0.6758           -0.005     within noise
acc_norm   ± 0.011   ± 0.011 ± 0.011 -0.021 to +0.001 -112 +100 of 301"""
    )
