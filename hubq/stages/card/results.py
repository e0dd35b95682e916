"""Measurements in the Hub's forms: the card's model-index, and results for leaderboards.

The Hub takes results only for data sets that it lists as benchmarks, by the task ids of their
eval.yaml (huggingface.co/docs/hub/eval-results). A leaderboard compares like with like, so a
measurement is entered only if it followed the whole protocol: every item of the official split,
with the shots and the metric that the number is known by. Our local variants never are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hubq.records.report import (
    Cost,
    Divergence,
    Efficiency,
    Fidelity,
    Interval,
    Measurement,
    Overall,
    Report,
)
from hubq.records.run_folder import REPORT_IN_A_REPO
from hubq.records.vocabulary import PUBLIC_HUB
from hubq.sources.task_names import picture_tasks

FOLDER = ".eval_results"  # in a repo
READING, SEEING = "text-generation", "image-text-to-text"  # as the Hub calls kinds of tasks
BELIEVABLE = {"samples", "stderr", "base", "base_stderr", "difference", "recovery", "protocol"}
# What pins a data set in a report's versions: a digest, a commit of a repo, lm-eval's data.
DIGEST = re.compile(r"sha256:[0-9a-f]+")
COMMIT = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]+)")
DATA = re.compile(r"\bdata (?P<commit>[0-9a-f]+)$")
COSTS: Mapping[str, str] = {
    "tokens_per_second": "tokens decoded per second",
    "first_token_seconds": "seconds to the first token",
    "load_seconds": "seconds to load",
    "memory_loaded": "bytes of memory once loaded",
    "memory_peak": "bytes of memory at peak",
    "joules_per_token": "joules per token",
}
REVISION = re.compile(r"\bdata ([0-9a-f]{40})\b")  # in a version: the commit of the task's data


class Data(NamedTuple):
    """What a number was measured on, as the Hub wants to know it."""

    kind: str  # a Hub id, or a word of that shape
    name: str
    revision: str | None  # a commit or a digest; None: not known


def data(dataset: str, version: str) -> Data:
    """Read what pins a data set from a report's title and version."""
    if found := COMMIT.match(version):
        return Data(found["repo"], dataset, found["commit"])
    # The Hub takes nothing for a type that could not be a data set's id.
    kind = re.sub(r"[^a-z0-9_.-]+", "-", dataset.lower()).strip("-")
    if found := DIGEST.match(version):
        return Data(kind, dataset, found[0])
    found = DATA.search(version)
    return Data(kind, dataset, found["commit"] if found else None)


def model_index(report: Report) -> list[Any]:
    """Return all that was measured as EvalResults."""
    found = [evaluation(each) for each in report.measurements]
    if report.overall is not None:
        found.append(_overall(report.overall))
    if report.fidelity is not None:
        found += _fidelity(report.fidelity)
    if report.efficiency is not None:
        found += _efficiency(report.efficiency)
    return found


def evaluation(measurement: Measurement) -> Any:  # noqa: ANN401 - an EvalResult, imported late
    """Return a measurement as an entry of model-index."""
    facts = measurement.model_dump(include=BELIEVABLE, exclude_none=True)
    metric, task = measurement.metric, measurement.task
    return _result(
        task,
        data(measurement.dataset, measurement.version),
        metric=metric,
        title=metric if metric == task else f"{task} {metric}",
        value=measurement.value,
        facts={**facts, "version": measurement.version},
    )


def _overall(overall: Overall) -> Any:  # noqa: ANN401 - an EvalResult, imported late
    tasks = ", ".join(overall.accuracies)
    return _result(
        "mean of all tasks",
        Data("all-tasks", tasks, None),
        metric="recovery",
        title="share of the base's mean accuracy that is kept",
        value=overall.recovery.value,
        facts={**_ends(overall.recovery), "base": overall.base, "mean": overall.value},
    )


def _fidelity(fidelity: Fidelity) -> Iterator[Any]:
    """Yield the distances from the base's distributions, and those of the base from itself."""
    told = {"protocol": fidelity.protocol, "version": fidelity.version}  # with the first is enough
    for metric, title, value, facts in _distances(fidelity):
        yield _result(
            "fidelity to the base",
            data(fidelity.dataset, fidelity.version),
            metric=metric,
            title=title,
            value=value,
            facts={**told, **facts},
        )
        told = {}


def _distances(fidelity: Fidelity) -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Yield the metric, the title, the value and the facts of each distance."""
    yield from _divergence(fidelity.result, "", "this model", "the base")
    if fidelity.floor is not None:
        yield from _divergence(fidelity.floor, "_floor", "the base", "itself")


def _divergence(
    found: Divergence, suffix: str, model: str, other: str
) -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Yield what is known of one divergence."""
    tokens = {"tokens": found.tokens}
    mean, agreement = tokens | _ends(found.mean), tokens | _ends(found.agreement)
    nats = f"KL divergence of {model} from {other}, in nats"
    alike = f"top-1 agreement of {model} with {other}"
    yield f"kl_divergence{suffix}", f"mean {nats}", found.mean.value, mean
    yield f"kl_divergence_median{suffix}", f"median {nats}", found.median, tokens
    yield f"kl_divergence_p99{suffix}", f"99th percentile, {nats}", found.percentile_99, tokens
    yield f"top1_agreement{suffix}", alike, found.agreement.value, agreement


def _efficiency(found: Efficiency) -> Iterator[Any]:
    """Yield what it takes to run, each beside the base's."""
    how = found.model_dump(exclude={"base", "result"})
    for metric, title in COSTS.items():
        own, base = _cost(found.result, metric), _cost(found.base, metric)
        if own is None:
            continue
        yield _result(
            "generating text",
            Data("random-tokens", "random tokens", None),
            metric=metric,
            title=title,
            value=own.value,
            facts={**how, **_ends(own), **({} if base is None else {"base": base.value})},
        )


def _cost(cost: Cost, metric: str) -> Interval | None:
    """Return one cost as a value with its least and its greatest, where these are known."""
    found = getattr(cost, metric)
    return found if found is None or isinstance(found, Interval) else Interval(value=found)


def _ends(interval: Interval) -> dict[str, float]:
    """Return the ends of an interval, where they are known."""
    return interval.model_dump(include={"low", "high"}, exclude_none=True)


def _result(  # noqa: PLR0913 - what the Hub wants to know of one number
    task: str,
    on: Data,
    *,
    metric: str,
    title: str,
    value: float,
    facts: Mapping[str, Any],
) -> Any:  # noqa: ANN401 - an EvalResult, imported late
    """Return one entry of model-index."""
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type=SEEING if task in picture_tasks() else READING,
        task_name=task,
        dataset_type=on.kind,
        dataset_name=on.name,
        dataset_revision=on.revision,
        metric_type=metric,
        metric_name=title,
        metric_value=value,
        metric_args=dict(facts),
    )


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
