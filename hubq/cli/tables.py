"""Plans and methods as tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from hubq.cli.bars import duration
from hubq.machine.files import gigabytes

if TYPE_CHECKING:
    from rich.table import Table

    from hubq.cli.outlook import Outlook
    from hubq.records.plan import Plan, PlannedAdaptation, PlannedModule, PlannedVision
    from hubq.stages.plan.forecast import Forecast


def print_plan(seen: "Outlook", publishing: tuple[str, str], goes_on: str | None) -> None:
    """Print what will be quantized and kept, what it costs, and what doesn't fit.

    `publishing` says who may publish it, and what room there is for it.
    """
    from rich.console import Console

    console = Console()
    console.print(_modules(seen.plan))
    for name, value in _facts(seen, publishing, goes_on):
        console.print(f"{name:17} {value}", highlight=False, markup=False, soft_wrap=True)


def _modules(plan: "Plan") -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    architecture = plan.vision.architecture if plan.vision else plan.architecture
    table = Table(title=f"{plan.recipe['name']}: {architecture}", title_justify="left", box=SIMPLE)
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


def _facts(
    seen: "Outlook", publishing: tuple[str, str], goes_on: str | None
) -> Iterator[tuple[str, str]]:
    from hubq.stages.lint.lint import described, loading

    plan = seen.plan
    yield "model", plan.source
    yield from (("", remark) for remark in plan.remarks)
    if plan.vision is not None:
        yield from _staying(plan.vision)
    gate = f", gated ({plan.base_card.gate})" if plan.base_card.gate else ""
    yield "base", f"{plan.base_model or 'not known'}, license {plan.license or 'not known'}{gate}"
    yield "format", plan.recipe["format"]
    yield from (("", f"{engine}: {answer}") for engine, answer in loading(seen.verdict))
    yield from (("lint", described(each)) for each in seen.verdict.errors)
    yield "parameters", f"{plan.parameters:,}"
    yield "on disk", f"{gigabytes(plan.bytes)} ({plan.base_bytes / plan.bytes:.2f} times smaller)"
    yield (
        "bits",
        f"per weight of the linears {plan.nominal_bits:.4g} nominal, {plan.needed_bits:.3f} "
        f"needed, {plan.linear_bits:.3f} stored; per parameter of the whole file "
        f"{plan.model_bits:.3f}",
    )
    yield "peak memory", _memory(plan)
    yield "run folder", f"at most about {gigabytes(seen.disk)}, states for resuming included"
    if plan.compute_dtype is not None:
        yield from _conversations(plan)
        yield "calibration dtype", plan.compute_dtype
    if plan.adaptation is not None:
        yield from _adapting(plan, plan.adaptation)
    yield from _times(seen.forecast)
    if seen.by_blocks is not None:
        told = "block by block, without efficiency and tasks that write texts"
        yield "evaluates", f"{told}: {seen.by_blocks}"
    yield from (("does not fit", sentence) for sentence in seen.lacking)
    yield "storage", publishing[1]
    yield "repo", f"{plan.repo} ({publishing[0]})"
    if goes_on is not None:
        yield "goes on", goes_on


def _staying(vision: "PlannedVision") -> Iterator[tuple[str, str]]:
    """List what of a model that sees is not quantized, and what becomes of it."""
    becomes = (
        "kept, byte for byte" if vision.part == "all" else "left out: the copy reads text alone"
    )
    for each, title in zip(vision.stays, ("sees by", *[""] * len(vision.stays)), strict=False):
        size = gigabytes(each.bytes)
        yield title, f"{each.name}, {each.parameters:,} parameters, {size}: {becomes}"


def _conversations(plan: "Plan") -> Iterator[tuple[str, str]]:
    """Say which conversations and pictures calibrate, and how they are laid out."""
    from hubq.records.recipe_calibration import IMAGE_SHARE, CalibrationSection

    section = CalibrationSection.model_validate(plan.recipe["calibration"])
    for data, samples in section.parts:
        if data.speaks_in or data.sees:
            what = "pictures with text" if data.sees else "conversations"
            where = data.name or data.hub or (data.wheel.file if data.wheel else data.file)
            yield (
                "calibrates on",
                f"{samples:,} {what} of {where}, by the model's chat template, each cut at "
                f"{section.length:,} tokens",
            )
    if section.sees:
        share = section.image_share or IMAGE_SHARE
        yield "", f"all tokens of pictures count {share:.0%} together, all of text the rest"


def _adapting(plan: "Plan", adapted: "PlannedAdaptation") -> Iterator[tuple[str, str]]:
    """Say what is added or trained, what that takes, and what its data asks for."""
    from hubq.sources.data_license import duties_of_data

    made = "an adapter" if adapted.makes == "adapter" else "a whole model"
    costs = f"{adapted.added_bits:+.3f} stored bits per weight of the linears"
    yield "adapts", f"by {adapted.name} to {made} of {gigabytes(adapted.bytes)}, {costs}"
    yield "", f"{adapted.parameters:,} numbers are trained or added"
    host = f"about {gigabytes(adapted.peak_memory)}"
    gpu = adapted.device_memory
    memory = host if gpu is None else f"about {gigabytes(gpu)} on the GPU, {host} of the host"
    yield "", f"peak memory {memory}, in {adapted.compute_dtype}"
    if adapted.pairs is not None:
        yield "learns from", f"{adapted.pairs}, license {adapted.data_license or 'not known'}"
        yield from (("", duty) for duty in duties_of_data(adapted.data_license))
    elif plan.recipe["adapt"].get("dataset"):
        yield "learns from", "what could not be looked at: the Hub did not answer"
    yield "adapted repo", adapted.repo


def _memory(plan: "Plan") -> str:
    """Say what a run takes of the host's memory and of a GPU's, and where its states wait."""
    host = f"about {gigabytes(plan.peak_memory)}"
    if plan.device_memory is None:
        return f"{host}, and hidden states in files" if plan.hidden_states == "disk" else host
    where = {"device": "on the GPU", "host": "in the host's memory", "disk": "in files"}
    states = f"; hidden states {where[plan.hidden_states]}" if plan.hidden_states else ""
    return f"about {gigabytes(plan.device_memory)} on the GPU, {host} of the host{states}"


def _times(expected: "Forecast") -> Iterator[tuple[str, str]]:
    """Say how long each stage takes, and what in it takes longest."""
    yield "time", f"about {duration(expected.seconds)} on {expected.device}"
    for stage, parts in expected.stages.items():
        longest = sorted(parts.items(), key=lambda part: -part[1])
        told = ", ".join(f"{name} {seconds:.0f}" for name, seconds in longest if seconds >= 1)
        yield "", f"{stage} {duration(sum(parts.values()))}" + (f" ({told} s)" if told else "")


def print_methods(methods: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what each method is, takes and fits into."""
    rows = []
    for name, about in methods.items():
        options = [each for each in about["options"] if each["name"] != "bits"]
        held = (f"{form}: {_listed(bits)}" for form, bits in about["formats"].items())
        shown = (f"{each['name']} {_default(each['default'])}" for each in options)
        rows.append((name, _listed(about["bits"]), "\n".join(shown), "\n".join(held)))
    sentences = (
        f"{about['title']} ({name}): {about['does']}"
        f"{' Needs calibration data.' if about['needs'] else ''} {about['paper']}"
        for name, about in methods.items()
    )
    _print_choices(("method", "bits", "options", "formats: bits"), rows, sentences)


def print_adapters(adapters: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what each adapter is, takes and makes, below what is printed already."""
    rows = []
    for name, about in adapters.items():
        options = (f"{each['name']} {_given(each['default'])}" for each in about["options"])
        rows.append((name, about["makes"], "\n".join(options)))
    sentences = (
        f"{about['title']} ({name}): {about['does']} {about['paper']}"
        for name, about in adapters.items()
    )
    click.echo()
    _print_choices(("adapter", "makes", "options"), rows, sentences)


def _print_choices(
    headings: Sequence[str], rows: Iterable[Sequence[str]], sentences: Iterable[str]
) -> None:
    """Print a table of what there is to choose from, and a sentence on each."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row)
        table.add_section()
    console = Console()
    console.print(table)
    for sentence in sentences:
        console.print(sentence, highlight=False, soft_wrap=True)


def _given(default: object) -> str:
    """Write the default of an option that a recipe may have to give."""
    return "" if default is None else _default(default)


def _default(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def _listed(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.3g}" for number in numbers)
