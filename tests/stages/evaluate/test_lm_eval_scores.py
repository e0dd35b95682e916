"""What is made of lm-eval's table, with lm-eval itself over small tasks of every kind."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hubq.errors import UserError
from hubq.machine.progress import SILENT
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.lm_eval_model import language_model as wrapped
from hubq.stages.evaluate.lm_eval_scores import scores
from hubq.stages.evaluate.measurements.choice import harness_task
from hubq.stages.evaluate.task import Score

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_target: gold
doc_to_choice: [" yes", " no"]
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
SHARE = """
include: small.yaml
task: share
process_results: !function own_rule.share
metadata: {version: 3}
"""
GROUP = """
group: {name}
task: [small, large]
aggregate_metric_list: [{{metric: acc, weight_by_size: {weighed}}}]
"""
UNEVEN_GROUP = GROUP.replace("small, large", "uneven, large")
TEXTS = """
task: texts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: question
generation_kwargs: {{until: ["."], max_gen_toks: 4}}
filter_list:
  - name: plain
    filter: [{{function: take_first}}]
  - name: lower
    filter: [{{function: lowercase}}, {{function: take_first}}]
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
  - {{metric: bleu, aggregation: bleu, higher_is_better: true}}
"""
OWN_RULE = """
def share(doc, results):
    return {"acc": 0.25 + doc["gold"] / 2}
"""
UNEVEN = """
include: small.yaml
task: uneven
doc_to_choice: "{{['yes', 'no'] if gold else ['yes', 'no', 'both', 'never']}}"
"""
EITHER = """
include: small.yaml
task: either
doc_to_target: "{{[0, 1]}}"
doc_to_choice: [" yes", " no", " both"]
"""
SIZES = {"small": 2, "large": 6}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("definitions")
    for name, size in SIZES.items():
        rows = [{"question": f"{name} {number}?", "gold": number % 2} for number in range(size)]
        data = root / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (root / f"{name}.yaml").write_text(CHOICE.format(name=name, data=data))
    (root / "own_rule.py").write_text(OWN_RULE)
    (root / "uneven.yaml").write_text(UNEVEN)
    (root / "either.yaml").write_text(EITHER)
    (root / "uneven_by_size.yaml").write_text(
        UNEVEN_GROUP.format(name="uneven_by_size", weighed="true")
    )
    (root / "uneven_by_task.yaml").write_text(
        UNEVEN_GROUP.format(name="uneven_by_task", weighed="false")
    )
    (root / "share.yaml").write_text(SHARE)
    (root / "texts.yaml").write_text(TEXTS.format(data=root / "small.jsonl"))
    (root / "by_size.yaml").write_text(GROUP.format(name="by_size", weighed="true"))
    (root / "by_task.yaml").write_text(GROUP.format(name="by_task", weighed="false"))
    (root / "only_names.yaml").write_text("group: only_names\ntask: [by_size, share]\n")
    return root


@pytest.fixture(scope="module")
def measured(
    definitions: Path, tiny_model: Callable[[str], Path]
) -> Callable[[str], tuple[Score, ...]]:
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    folder = tiny_model("llama")
    model = load(folder, device="cpu", dtype="float32").model

    def measure(name: str) -> tuple[Score, ...]:
        loaded = TaskManager(include_path=definitions, include_defaults=False).load([name])
        for task in loaded["tasks"].values():
            task.set_config(key="num_fewshot", value=0)
        language_model = wrapped(model, folder, SILENT, name)
        results = evaluate(language_model, loaded, bootstrap_iters=0)
        return scores(harness_task(name), loaded, results)

    return measure


def of(name: str, found: Sequence[Score]) -> Score:
    (score,) = (each for each in found if each.task == name)
    return score


Measured = Callable[[str], tuple[Score, ...]]


def test_a_group_weighed_by_size_is_the_mean_of_all_items(measured: Measured) -> None:
    found = measured("by_size")

    group = of("by_size", found)
    assert group.items == of("small", found).items + of("large", found).items
    assert group.value == pytest.approx(sum(group.items) / 8)
    assert "of each of 2 tasks weighed by their items" in group.protocol


def test_a_mean_of_means_has_no_items_and_says_so(measured: Measured) -> None:
    found = measured("by_task")

    group = of("by_task", found)
    small, large = of("small", found), of("large", found)
    assert group.value == pytest.approx((small.value + large.value) / 2)
    assert group.samples == 8
    assert "of each of 2 tasks all weighing the same" in group.protocol
    assert (group.items == ()) == (small.value != large.value)


def test_chance_is_the_mean_share_of_choices_that_are_right(measured: Measured) -> None:
    assert of("small", measured("by_size")).chance == 1 / 2
    assert of("uneven", measured("uneven")).chance == (1 / 2 + 1 / 4) / 2
    assert of("either", measured("either")).chance == pytest.approx(2 / 3)


def test_a_groups_chance_is_weighed_as_its_number_is(measured: Measured) -> None:
    by_size = of("uneven_by_size", measured("uneven_by_size"))
    by_task = of("uneven_by_task", measured("uneven_by_task"))

    assert by_size.chance == pytest.approx((2 * 0.375 + 6 * 0.5) / 8)
    assert by_task.chance == pytest.approx((0.375 + 0.5) / 2)


def test_what_is_no_choice_of_the_likeliest_answer_has_no_known_chance(measured: Measured) -> None:
    found = [*measured("share"), *measured("texts")]

    assert {each.chance for each in found} == {None}


def test_a_group_without_a_number_of_its_own_gives_those_of_its_members(
    measured: Measured,
) -> None:
    found = measured("only_names")

    assert [(each.task, each.part_of) for each in found] == [
        ("by_size", "only_names"),
        ("share", "only_names"),
    ]


def test_a_task_with_its_own_rule_has_items_but_no_answers(measured: Measured) -> None:
    (found,) = measured("share")

    assert found.items == (0.25, 0.75)
    assert found.answers == ()
    assert "log-likelihoods of the answers, scored by the task's own rule" in found.protocol
    assert found.version.startswith("3, lm-eval")


def test_metrics_name_the_way_in_which_the_answer_was_read(measured: Measured) -> None:
    found = {score.metric: score for score in measured("texts")}

    assert set(found) == {
        "exact_match (plain)",
        "exact_match (lower)",
        "bleu (plain)",
        "bleu (lower)",
    }
    assert "greedy generation of at most 4 tokens, the answer read by lower" in (
        found["exact_match (lower)"].protocol
    )


def test_a_number_of_the_whole_corpus_has_no_items_but_answers(measured: Measured) -> None:
    found = {score.metric: score for score in measured("texts")}

    assert found["bleu (plain)"].items == ()
    assert len(found["bleu (plain)"].answers) == 2
    assert len(found["exact_match (plain)"].items) == 2


def test_a_table_without_a_number_is_refused() -> None:
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}}
    results = {"results": {"silent": {"alias": "silent", "acc,none": float("nan")}}}

    with pytest.raises(UserError, match="piqa gives no number"):
        scores(harness_task("piqa"), loaded, results | {"group_subtasks": {}})
