"""Plans and methods as tables."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hubq.cli.bars import duration
from hubq.machine.files import gigabytes

if TYPE_CHECKING:
    from rich.table import Table

    from hubq.records.plan import Plan, PlannedModule


def print_plan(plan: "Plan", publishing: str, by_blocks: str | None = None) -> None:
    """Print what will be quantized and kept, and what it costs.

    `by_blocks` says why the models don't fit whole into memory where they are evaluated.
    """
    from rich.console import Console

    console = Console()
    console.print(_modules(plan))
    for name, value in _facts(plan, publishing):
        console.print(f"{name:13} {value}", highlight=False, markup=False, soft_wrap=True)
    if by_blocks is not None:
        told = f"block by block, without efficiency and tasks that write texts: {by_blocks}"
        console.print(f"{'evaluates':13} {told}", highlight=False, markup=False, soft_wrap=True)


def _modules(plan: "Plan") -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(
        title=f"{plan.recipe['name']}: {plan.architecture}", title_justify="left", box=SIMPLE
    )
    for title in ("weights", "becomes"):
        table.add_column(title, no_wrap=True)
    for title in ("number", "out x in", "bits", "on disk"):
        table.add_column(title, justify="right", no_wrap=True)
    for (name, shape, quantized), modules in _kinds(plan.modules).items():
        size = sum(module.bytes for module in modules)
        becomes = _becomes(plan, modules[0]) if quantized else plan.dtype
        table.add_row(
            name,
            becomes,
            str(len(modules)),
            f"{shape[0]} x {shape[1]}",
            f"{modules[0].bits:.3f}",
            gigabytes(size),
        )
    return table


def _becomes(plan: "Plan", module: "PlannedModule") -> str:
    """Name what quantizes a module: outside of the blocks it is always RTN."""
    inside = any(part.isdigit() for part in module.name.split("."))
    return str(plan.recipe["method"]["name"]) if inside else "rtn"


def _kinds(
    modules: "tuple[PlannedModule, ...]",
) -> "dict[tuple[str, tuple[int, int], bool], list[PlannedModule]]":
    """Gather modules that differ only in the number of their block."""
    kinds: dict[tuple[str, tuple[int, int], bool], list[PlannedModule]] = {}
    for module in modules:
        name = ".".join(part for part in module.name.split(".")[-2:] if part != "model")
        kinds.setdefault((name, module.shape, module.quantized), []).append(module)
    return kinds


def _facts(plan: "Plan", publishing: str) -> Iterator[tuple[str, str]]:
    yield "model", plan.source
    yield from (("", remark) for remark in plan.remarks)
    gate = f", gated ({plan.base_card.gate})" if plan.base_card.gate else ""
    yield "base", f"{plan.base_model or 'not known'}, license {plan.license or 'not known'}{gate}"
    yield "format", plan.recipe["format"]
    yield "parameters", f"{plan.parameters:,}"
    yield "on disk", f"{gigabytes(plan.bytes)} ({plan.base_bytes / plan.bytes:.2f} times smaller)"
    yield (
        "bits",
        f"per weight of the linears {plan.nominal_bits:.4g} nominal, {plan.needed_bits:.3f} "
        f"needed, {plan.linear_bits:.3f} stored; per parameter of the whole file "
        f"{plan.model_bits:.3f}",
    )
    yield "peak memory", f"about {gigabytes(plan.peak_memory)}"
    if plan.compute_dtype is not None:
        yield "calibrates in", plan.compute_dtype
    yield "time", f"about {duration(plan.seconds)} to quantize"
    yield "repo", f"{plan.repo} ({publishing})"


def print_methods(methods: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what each method is, takes and fits into."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for heading in ("method", "bits", "options", "formats: bits"):
        table.add_column(heading, no_wrap=True)
    for name, about in methods.items():
        options = [each for each in about["options"] if each["name"] != "bits"]
        held = (f"{form}: {_listed(bits)}" for form, bits in about["formats"].items())
        table.add_row(
            name,
            _listed(about["bits"]),
            "\n".join(f"{each['name']} {_default(each['default'])}" for each in options),
            "\n".join(held),
        )
        table.add_section()
    console = Console()
    console.print(table)
    for name, about in methods.items():
        data = "" if not about["needs"] else " Needs calibration data."
        console.print(
            f"{about['title']} ({name}): {about['does']}{data} {about['paper']}",
            highlight=False,
            soft_wrap=True,
        )


def _default(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def _listed(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.3g}" for number in numbers)
