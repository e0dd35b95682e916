"""What has to hold before anything is computed: licenses, gates, names, and what a recipe requires.

A base under a license that stays goes out under no other, a gated base by no open door; a name is
what the license allows; and what a plan can tell will be missed is refused now.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.engines import vllm_python
from hubq.records.number_format import number
from hubq.records.plan import Gate, Plan
from hubq.records.recipe_evaluate import EvaluateSection, TaskSection
from hubq.records.vocabulary import LONGEST_NAME
from hubq.sources.license_terms import governing, terms_of
from hubq.sources.task_names import dimension_of, picture_tasks

if TYPE_CHECKING:
    from hubq.records.recipe_calibration import CalibrationSection
    from hubq.sources.source import Source
    from hubq.stages.recipe.recipe import PublishSection, Recipe

ASKING = {"auto": "every request is granted", "manual": "its owners answer each request"}
TOLERANCE = 1.01  # so much more than is stored may be estimated


def require_permission(publish: "PublishSection", source: "Source") -> None:
    """Refuse what the base's license or gate does not allow, as far as they are known."""
    _require_license(source.license, publish.license)
    require_gate(publish.model_dump(), source.card.gate, source.base_model or source.identity)


def _require_license(base: str | None, published: str | None) -> None:
    """Refuse to put a model under a license that its own forbids."""
    terms = terms_of(base)
    if terms is None or not terms.stays or published is None or terms_of(published) is terms:
        return
    raise UserError(
        f"publish.license {published}: the base is under the {terms.title} ({base}), which stays "
        "with every copy of it.\n"
        f"Leave publish.license out; if {base} is not the base's license, set model.license"
    )


def require_gate(publish: Mapping[str, Any], gate: Gate | None, base: str) -> None:
    """Refuse to open to everybody what the base gives only to those who ask."""
    guarded = publish["private"] or publish.get("gated") or publish.get("open_although_gated")
    if gate is None or guarded:
        return
    how = f": {ASKING[gate]}" if gate in ASKING else ""
    raise UserError(
        f"publish.private: false: the base {base} is gated{how}, and a copy that is open to "
        "everybody would bypass this.\n"
        "Set publish.gated: auto (or manual), or publish.private: true. If the base's license "
        "allows an open copy and you want one, set publish.open_although_gated: true"
    )


def require_engine(recipe: "Recipe") -> None:
    """Refuse an engine that is not installed, or that doesn't read the format at its bits."""
    if recipe.evaluate.engine != "vllm":
        return
    method = recipe.method
    if "vLLM" not in method.served_by(recipe.format):
        raise UserError(
            f"evaluate.engine: vllm reads no {recipe.format} of {number(method.nominal_bits)} "
            "bits; leave it out, or choose a format that it reads: compressed-tensors, gptq, awq"
        )
    vllm_python()


def require_gate_now(plan: Plan, client: Client) -> None:
    """Look at the base's gate once more before anything becomes public: it may be newer."""
    from hubq.sources.hub import card_on_hub

    publish = plan.recipe["publish"]
    require_gate(publish, plan.base_card.gate, plan.base_model or plan.source)
    if publish["private"] or publish.get("gated") or plan.base_model is None:
        return
    if card := card_on_hub(plan.base_model.partition("@")[0], client, plan.license):
        require_gate(publish, card.gate, plan.base_model)


def refuse_unmeasured(section: EvaluateSection) -> None:
    """Raise UserError for budgets of what the recipe doesn't measure, all of them at once."""
    if missing := list(_unmeasured(section)):
        raise UserError("\n".join(missing))


def refuse_unreachable(plan: Plan) -> None:
    """Raise UserError where a plan will store more bits than are allowed.

    An estimate differs a little from the bytes as written, so the last word is `unmet`'s.
    """
    section = EvaluateSection.model_validate(plan.recipe.get("evaluate", {}))
    most = section.require.stored_bits
    if most is not None and plan.linear_bits > TOLERANCE * most:
        raise UserError(
            f"evaluate.require.stored_bits: at most {number(most)} bits per weight are allowed, "
            f"and this recipe will store {number(plan.linear_bits)}; allow more, or choose "
            "a method, bits or groups that need less (hubq methods)"
        )


def require_eyes(section: EvaluateSection, *, sees: bool, model: str) -> None:
    """Refuse tasks on pictures of a model that reads text alone, and examples for them."""
    asked = [each for each in section.tasks if each.name in picture_tasks()]
    names = ", ".join(each.name for each in asked)
    if asked and not sees:
        raise UserError(
            f"evaluate.tasks: {names} ask{'s' * (len(asked) == 1)} about pictures, and {model} "
            "reads text alone; leave out what does, or name a model that sees"
        )
    for each in asked:
        if each.shots:
            raise UserError(
                f"evaluate.tasks: {each.name} is asked without examples, and {each.shots} are "
                "asked for; leave shots out for this task"
            )


def require_seeing(section: "CalibrationSection | None", *, sees: bool, model: str) -> None:
    """Refuse to calibrate a model on pictures that reads text alone."""
    if section is not None and section.sees and not sees:
        raise UserError(
            f"calibration: there are pictures in it, and {model} reads text alone; calibrate on "
            "text, or name a model that sees"
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
            "evaluate.require.recovery: tasks about alignment are not part of the mean accuracy; "
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


def repo_name(recipe: "Recipe", source: "Source") -> str:
    """Return the repo's name: the recipe's, or one made of base, method and bits."""
    name = recipe.publish.name
    if name is not None:
        return _allowed("name", name, recipe, source)
    license = governing(source.license, recipe.publish.license)
    return _made(recipe, source, required_start(license))


def adapted_name(recipe: "Recipe", source: "Source") -> str:
    """Return the adapted model's: the recipe's, or the quantized model's with the adapter's."""
    publish, adapter = recipe.publish, recipe.adapt
    assert adapter is not None, "a recipe with a section adapt"
    if publish.adapted_name is not None:
        return _allowed("adapted_name", publish.adapted_name, recipe, source)
    whole = {False: "", True: "-merged", "requantized": "-requantized"}
    rest = f"-{_plain(adapter.title)}{whole[adapter.merge]}"
    quantized = (publish.quantized or "").partition("@")[0].rpartition("/")[2]
    name = quantized or repo_name(recipe, source)
    return name[: LONGEST_NAME - len(rest)].rstrip("-.") + rest


def _allowed(key: str, name: str, recipe: "Recipe", source: "Source") -> str:
    """Return a name; raise UserError where the license wants another beginning."""
    license = governing(source.license, recipe.publish.license)
    start = required_start(license)
    if start and not name.lower().startswith(start.lower()):
        raise UserError(
            f"publish.{key} {name}: the license {license} asks that the name begin with {start}; "
            f"use {start}-{name}, or leave {key} out"
        )
    return name


def required_start(license: str | None) -> str | None:
    """Return how a license wants the name of a derived model to begin."""
    if terms := terms_of(license):
        return terms.start
    # Meta has asked for this since Llama 3; a Llama that is newer than the table won't differ.
    return "Llama" if license and re.fullmatch(r"llama-?[4-9].*", license.lower()) else None


def _made(recipe: "Recipe", source: "Source", start: str | None) -> str:
    base = _plain(_base(recipe, source)) or "model"
    base = f"{base}-language" if source.is_part else base
    if start and not base.lower().startswith(start.lower()):
        base = base.removeprefix("Meta-")
        base = base if base.lower().startswith(start.lower()) else f"{start}-{base}"
    method = recipe.method
    named = filter(None, (_plain(method.title), method.variant, f"{method.nominal_bits:.3g}bit"))
    rest = f"-{'-'.join(named)}"
    return base[: LONGEST_NAME - len(rest)].rstrip("-.") + rest


def _plain(words: str) -> str:
    """Spell words as the Hub takes them in a name."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", words)
    return re.sub(r"([-.])[-.]+", r"\1", kept).strip("-.")


def _base(recipe: "Recipe", source: "Source") -> str:
    """Return the base's short name, whatever is known of it."""
    model = recipe.model
    if source.base_model is not None:
        return source.base_model.partition("@")[0].rpartition("/")[2]
    if model.gguf is not None:
        return model.gguf.stem
    if model.wheel is not None:
        return model.wheel.file.rpartition("/")[2].removesuffix(".gguf")
    assert model.folder is not None, "a Hub id is a base_model"
    return model.folder.name
