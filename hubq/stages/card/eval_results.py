"""Results for the leaderboards of the Hub: `.eval_results/*.yaml`, one file a benchmark.

The Hub takes results only for data sets that it lists as benchmarks, by the task ids of their
eval.yaml (huggingface.co/docs/hub/eval-results). A leaderboard compares like with like, so a
measurement is entered only if it followed the whole protocol: every item of the official split,
with the shots and the metric that the number is known by. Our local variants never are.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubq.records.report import Measurement, Report
from hubq.records.run_folder import REPORT_IN_A_REPO
from hubq.records.vocabulary import PUBLIC_HUB

FOLDER = ".eval_results"
REVISION = re.compile(r"\bdata ([0-9a-f]{40})\b")  # in a version: the commit of the task's data


@dataclass(frozen=True)
class Benchmark:
    """One task of a benchmark of the Hub, and the protocol by which lm-eval's task follows it."""

    dataset: str  # as the Hub calls it
    task: str  # as its eval.yaml calls it
    items: int  # of the official split
    shots: int
    metric: str
    filter: str  # how the answer is taken out of the text, where lm-eval knows several ways


# By the name of lm-eval's task. The ids are those of results that the Hub shows.
BENCHMARKS: Mapping[str, Benchmark] = {
    # The authors' own grader reads the number after "####", which is lm-eval's strict match.
    "gsm8k": Benchmark("openai/gsm8k", "gsm8k", 1319, 5, "exact_match", "strict-match"),
    "mmlu_pro": Benchmark(
        "TIGER-Lab/MMLU-Pro", "mmlu_pro", 12032, 5, "exact_match", "custom-extract"
    ),
}


def eval_results(report: Report) -> dict[str, bytes]:
    """Return the files with the report's results for benchmarks of the Hub, by path in the repo."""
    found = {
        name: _official(benchmark, [each for each in report.measurements if each.task == name])
        for name, benchmark in BENCHMARKS.items()
    }
    return {
        f"{FOLDER}/{name}.yaml": _entry(BENCHMARKS[name], measurement, report.plan.repo)
        for name, measurement in found.items()
        if measurement is not None
    }


def _official(benchmark: Benchmark, measured: Sequence[Measurement]) -> Measurement | None:
    """Return the one measurement that followed the whole protocol; None if none or several did."""
    official = [each for each in measured if _follows(each, benchmark)]
    if len(official) > 1:
        official = [each for each in official if benchmark.filter in each.metric]
    return official[0] if len(official) == 1 else None


def _follows(measurement: Measurement, benchmark: Benchmark) -> bool:
    """Tell whether a number came about as the benchmark's do."""
    data, _, _ = measurement.dataset.partition(" ")
    metric, named, way = measurement.metric.partition(benchmark.metric)
    return (
        data == benchmark.dataset
        and (measurement.samples, measurement.left_out) == (benchmark.items, 0)
        and bool(re.search(rf"\b{benchmark.shots}-shot\b", measurement.protocol))
        and (metric, named) == ("", benchmark.metric)
        and (not way or benchmark.filter in way)
    )


def _entry(benchmark: Benchmark, measurement: Measurement, repo: str) -> bytes:
    """Write the file of one result: in percent, as the leaderboards show it."""
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    revision = REVISION.search(measurement.version)
    entry = EvalResultEntry(
        dataset_id=benchmark.dataset,
        task_id=benchmark.task,
        dataset_revision=revision[1] if revision else None,
        value=round(100 * measurement.value, 4),
        source_url=f"{PUBLIC_HUB}/{repo}/blob/main/{REPORT_IN_A_REPO}",
        source_name="hubq's report",
        notes=f"{measurement.metric}, {measurement.protocol}; version {measurement.version}",
    )
    text = yaml.safe_dump(
        eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True, width=1000
    )
    return text.encode()
