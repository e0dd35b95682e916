"""A card's model-index: every number that was measured, with what makes it believable."""

import re
from collections.abc import Iterator, Mapping
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

BELIEVABLE = {"samples", "stderr", "base", "base_stderr", "difference", "recovery", "protocol"}
# What pins a data set in a report's versions: a digest, a commit of a repo, lm-eval's data.
DIGEST = re.compile(r"sha256:[0-9a-f]+")
COMMIT = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]+)")
DATA = re.compile(r"\bdata (?P<commit>[0-9a-f]+)$")


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
        title="share of the base's mean accuracy that is left",
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
    yield from _divergence(fidelity.result, "", "of this model from the base")
    if fidelity.floor is not None:
        yield from _divergence(fidelity.floor, "_floor", "of the base from itself")


def _divergence(
    found: Divergence, suffix: str, whose: str
) -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Yield what is known of one divergence."""
    tokens = {"tokens": found.tokens}
    mean, agreement = tokens | _ends(found.mean), tokens | _ends(found.agreement)
    nats, alike = f"KL divergence {whose}, in nats", "share of tokens with the same likeliest"
    yield f"kl_divergence{suffix}", f"mean {nats}", found.mean.value, mean
    yield f"kl_divergence_median{suffix}", f"median {nats}", found.median, tokens
    yield f"kl_divergence_p99{suffix}", f"99th percentile, {nats}", found.percentile_99, tokens
    yield f"top1_agreement{suffix}", f"{alike} successor {whose}", found.agreement.value, agreement


COSTS: Mapping[str, str] = {
    "tokens_per_second": "tokens decoded a second",
    "first_token_seconds": "seconds to the first token",
    "load_seconds": "seconds to load",
    "memory_loaded": "bytes of memory once loaded",
    "memory_peak": "bytes of memory at peak",
    "joules_per_token": "joules a token",
}


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
        task_type="text-generation",
        task_name=task,
        dataset_type=on.kind,
        dataset_name=on.name,
        dataset_revision=on.revision,
        metric_type=metric,
        metric_name=title,
        metric_value=value,
        metric_args=dict(facts),
    )
