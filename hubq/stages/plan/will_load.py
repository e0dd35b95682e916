"""Which engines will load what a plan makes: lint's rules, upon tensors that only have shapes."""

from collections.abc import Iterator, Mapping
from typing import Any

from hubq.formats import Format, format_named, scale_dtype
from hubq.records.plan import Plan
from hubq.sources.architecture import FAMILIES, blocks_in
from hubq.sources.shards import SPELLED
from hubq.sources.tensor_headers import TensorInfo
from hubq.stages.lint.lint import Verdict, lint
from hubq.stages.lint.release import Release
from hubq.stages.recipe.recipe import Recipe, head_method
from hubq.tensors import QuantizedTensor


def verdict_on(plan: Plan) -> Verdict:
    """Apply the rules that need no files to what the chosen format and method will make."""
    form, family = format_named(plan.recipe["format"]), FAMILIES[plan.architecture]
    sketches = _sketches(plan, form)
    kept = {each.name: each.shape for each in plan.modules if not each.quantized}
    tensors = {
        f"{name}.weight": TensorInfo("", "BF16", shape, 0, 0) for name, shape in kept.items()
    }
    tensors |= dict(_packed(sketches, form))
    settings = form.config(sketches, [name for name in kept if name != family.embeddings])
    config: dict[str, Any] = {
        "architectures": [plan.published_architecture],
        "num_hidden_layers": 1 + max(blocks_in(tensors, family), default=-1),
        "tie_word_embeddings": all(each.name != family.head for each in plan.modules),
        **form.config_additions(),
        **({"quantization_config": settings} if settings else {}),
    }
    return lint(Release(plan.repo, plan.repo, {}, {}, config, tensors))


def _sketches(plan: Plan, form: Format) -> dict[str, QuantizedTensor]:
    """Sketch what is quantized; equal ones are one object."""
    recipe = Recipe.model_validate(plan.recipe)
    scales = scale_dtype(plan.dtype, form)
    blocks = f"{FAMILIES[plan.architecture].blocks}."
    known: dict[tuple[bool, tuple[int, int]], QuantizedTensor] = {}
    found = {}
    for each in plan.modules:
        if each.quantized:
            key = (inside := each.name.startswith(blocks), each.shape)
            if key not in known:
                method = recipe.method if inside else head_method(recipe)
                known[key] = method.sketch(each.shape, scales)
            found[each.name] = known[key]
    return found


def _packed(
    sketches: Mapping[str, QuantizedTensor], form: Format
) -> Iterator[tuple[str, TensorInfo]]:
    """Yield the tensors of the files by name; equal sketches are packed once."""
    known: dict[int, dict[str, TensorInfo]] = {}
    for module, sketch in sketches.items():
        if id(sketch) not in known:
            known[id(sketch)] = {
                name.removeprefix(module): TensorInfo(
                    "", SPELLED[each.dtype], tuple(each.shape), 0, each.nbytes
                )
                for name, each in form.pack(module, sketch).items()
            }
        yield from ((f"{module}{part}", info) for part, info in known[id(sketch)].items())
