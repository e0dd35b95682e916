"""How much a task lets a model read and write."""

from hubq.sources.task_names import STUDY, own_tasks, picture_tasks
from hubq.sources.task_sizes import SIZES, tokens_of


def test_a_limit_counts_for_each_member_of_a_group() -> None:
    alone, group = SIZES["hubq_piqa"], SIZES["hubq_bbq"]

    assert tokens_of("hubq_piqa", 10) == (10 * alone.tokens, 0)
    assert tokens_of("hubq_bbq", 10) == (20 * group.tokens, 0)
    assert tokens_of("hubq_bbq", None) == (group.items * group.tokens, 0)


def test_the_tasks_of_quickstarts_and_of_the_study_are_known() -> None:
    named = {name for name in own_tasks() if name.startswith("hubq_")} | set(STUDY)

    assert named | set(picture_tasks()) <= set(SIZES)
