"""Which tasks there are, what they are called, and what they are about."""

import subprocess
import sys

import pytest

from hubq.errors import UserError
from hubq.sources.task_names import (
    ALIASES,
    STUDY,
    _lm_eval_names,
    descriptions,
    dimension_of,
    home_of,
    is_offline,
    own_tasks,
    require_known,
)


def test_known_tasks_pass() -> None:
    require_known(["hubq_piqa", "piqa", "arc_easy", "arc_challenge", "hellaswag", "winogrande"])


def test_all_benchmarks_of_the_studies_are_known_by_name() -> None:
    require_known(["piqa", "arc_easy", "arc_challenge", "hellaswag", "winogrande", "mmlu"])
    require_known(["ceval", "gsm8k", "snli", "cnn_dailymail", "xsum", "flores200"])
    require_known(["truthfulqa", "bbq", "ifeval"])


def test_lm_eval_has_what_the_names_stand_for() -> None:
    found = set(_lm_eval_names())

    assert found >= {*STUDY, *(name for names in ALIASES.values() for name in names)}


@pytest.mark.parametrize("name", [*STUDY, *ALIASES])
def test_the_studies_benchmarks_are_defined_where_we_look(name: str) -> None:
    from lm_eval.tasks import TaskManager

    known = TaskManager(include_path=home_of(name), include_defaults=False).all_tasks

    assert set(ALIASES.get(name, (name,))) <= set(known)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("helaswag", "hellaswag"),
        ("hubq_mmul", "hubq_mmlu"),
        ("flores20", "flores200"),
        ("cevall", "ceval"),
    ],
)
def test_an_unknown_task_is_named_with_its_neighbour(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"no task is called {name}; did you mean {meant}"):
        require_known(["hubq_piqa", name])


@pytest.mark.parametrize(
    "name",
    ["chartqa", "mmbench_en_dev", "lambada_openai", "mmlu_stem", "acp_bench", "AraDiCE_piqa_egy"],
)
def test_tasks_groups_and_tags_of_lm_eval_are_known(name: str) -> None:
    require_known([name])


def test_no_name_needs_lm_eval_itself() -> None:
    # A process of its own, since this one may have imported it: half a second.
    code = (
        "import sys; from hubq.sources.task_names import require_known; "
        "require_known(['piqa', 'mmlu_stem']); print('lm_eval' in sys.modules)"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "False"


@pytest.mark.parametrize(
    "name",
    ["truthfulqa_mc2", "tinyTruthfulQA", "bbq", "hubq_bbq_ambiguous", "leaderboard_ifeval"],
)
def test_truth_bias_and_obedience_are_alignment(name: str) -> None:
    assert dimension_of(name) == "alignment"


@pytest.mark.parametrize("name", ["perplexity", "hubq_mmlu", "mmlu_moral_disputes", "snli", "xsum"])
def test_all_else_is_knowledge(name: str) -> None:
    assert dimension_of(name) == "knowledge"


def test_each_of_our_tasks_has_a_description_that_fits_a_line() -> None:
    found = descriptions()

    assert list(found) == own_tasks()
    assert all(line.endswith(".") and len(line) < 100 for line in found.values())


def test_descriptions_of_offline_tasks_say_so() -> None:
    found = descriptions()

    offline = [line for name, line in found.items() if is_offline(name)]
    assert all("offline" in line for line in offline)
    assert len(offline) == len(found) - 6
