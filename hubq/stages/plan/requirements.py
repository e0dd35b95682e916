"""What a recipe requires of its result, as far as a plan can tell that it will not be met."""

from collections.abc import Iterator

from hubq.errors import UserError
from hubq.records.number_format import number
from hubq.records.plan import Plan
from hubq.records.recipe_evaluate import EvaluateSection, TaskSection
from hubq.sources.task_names import dimension_of

ESTIMATES_ERR = 1.01  # how far what is stored may stay below what was estimated


def refuse_unmeasured(section: EvaluateSection) -> None:
    """Raise UserError for budgets of what the recipe doesn't measure, all of them at once."""
    if missing := list(_unmeasured(section)):
        raise UserError("\n".join(missing))


def refuse_unreachable(plan: Plan) -> None:
    """Raise UserError where a plan estimates more stored bits than are allowed.

    What is estimated differs a little from the bytes as written, so the last word is `unmet`'s.
    """
    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    most = section.require.stored_bits
    if most is not None and plan.linear_bits > ESTIMATES_ERR * most:
        raise UserError(
            f"evaluate.require.stored_bits: at most {number(most)} bits a weight are allowed, and "
            f"this recipe will store {number(plan.linear_bits)}; allow more, or take "
            "a method, bits or groups that need less (hubq methods)"
        )


def _unmeasured(section: EvaluateSection) -> Iterator[str]:
    require = section.require
    if require.recovery is not None and not section.tasks:
        yield (
            "evaluate.require.recovery: no task is measured, so there is no accuracy to recover; "
            "name some in evaluate.tasks, or use perplexity_ratio"
        )
    elif require.recovery is not None and all(map(_is_about_alignment, section.tasks)):
        yield (
            "evaluate.require.recovery: tasks about alignment have no part in the mean accuracy; "
            "name others in evaluate.tasks too, or use perplexity_ratio"
        )
    if require.perplexity_ratio is not None and not section.perplexity:
        yield "evaluate.require.perplexity_ratio: no text is named in evaluate.perplexity"
    if require.divergence is None:
        return
    if section.fidelity is None:
        yield "evaluate.require.divergence: evaluate.fidelity is off, so nothing would measure it"
    elif not section.perplexity:
        yield (
            "evaluate.require.divergence: it is measured on the first text of "
            "evaluate.perplexity, and none is named"
        )


def _is_about_alignment(task: TaskSection) -> bool:
    return dimension_of(task.name) == "alignment"
