"""What was measured as a table: each dimension, then fidelity, efficiency and budgets in lines."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, get_args

from hubq.machine.files import gigabytes

if TYPE_CHECKING:
    from rich.table import Table

    from hubq.records.adapted_report import AdaptedReport
    from hubq.records.report import Efficiency, Fidelity, Flips, Measured, Measurement

COLUMNS = ("base", "this model", "difference", "recovery", "")
THREE = ("base", "quantized", "adapted", "gained", "")
BUSY = 0.05  # the share of the time that others may take without a word
LEGEND = (
    "± is the standard error; ranges are 95 % intervals; noise is a difference that chance "
    "explains; - and + count answers lost and won."
)
UNPAIRED = (
    "Where no answers are counted, the two errors are treated as independent, which overstates "
    "the noise."
)


def print_report(measured: "Measured") -> None:
    """Print every measurement beside the base's."""
    from rich.console import Console

    console = Console()
    console.print(_title(measured), highlight=False, markup=False, soft_wrap=True)
    if measured.measurements:
        console.print(_table(measured))
        console.print(LEGEND, highlight=False, markup=False)
        if any(each.difference and not each.paired for each in measured.measurements):
            console.print(UNPAIRED, highlight=False, markup=False)
    for name, value in _facts(measured):
        console.print(f"{name:11} {value}", highlight=False, markup=False, soft_wrap=True)


def _table(measured: "Measured") -> "Table":
    """Put each value in the first line of its cell, and how sure that is in the second."""
    from rich.box import SIMPLE
    from rich.table import Table

    from hubq.records.adapted_report import AdaptedReport
    from hubq.records.report import Dimension

    adapted = isinstance(measured, AdaptedReport)
    row = _of_three(measured) if isinstance(measured, AdaptedReport) else _of_two
    table = Table(box=SIMPLE, padding=0, show_edge=False)
    table.add_column("measured", overflow="fold")
    for heading in THREE if adapted else COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for dimension in get_args(Dimension):
        rows = [each for each in measured.measurements if each.dimension == dimension]
        if rows:
            table.add_section()
            table.add_row(dimension, style="bold")
        for each in rows:
            name = each.dataset if each.task == each.metric else each.task
            inside = "↳ " if measured.is_member(each) else ""
            table.add_row(f"{inside}{name}\n{each.metric}", *row(each))
    return table


def _of_two(found: "Measurement") -> list[str]:
    """Return what stands beside a name: base and result, and what lies between them."""
    from hubq.records.number_format import difference, share, uncertain

    cells = (
        uncertain(found.base, found.base_stderr),
        uncertain(found.value, found.stderr),
        difference(found),
        share(found.recovery) if found.recovery else "",
    )
    return [*map(_in_two_lines, cells), _judged(found)]


def _of_three(report: "AdaptedReport") -> "Callable[[Measurement], list[str]]":
    """Return what makes a row of base, quantized and adapted model, and what adapting gained."""
    from hubq.records.number_format import difference, uncertain

    gained = {_key(each): each for each in report.gained.measurements}

    def row(found: "Measurement") -> list[str]:
        gain = gained[_key(found)]
        cells = (
            uncertain(found.base, found.base_stderr),
            uncertain(gain.base, gain.base_stderr),
            uncertain(found.value, found.stderr),
            difference(gain),
        )
        return [*map(_in_two_lines, cells), _judged(gain)]

    return row


def _key(found: "Measurement") -> tuple[str, str, str]:
    return found.task, found.dataset, found.metric


def _judged(found: "Measurement") -> str:
    """Say whether a difference is noise, and which answers were lost and won."""
    from hubq.records.number_format import judged

    return f"{judged(found)}\n{_flips(found.flips) if found.flips else ''}"


def _in_two_lines(cell: str) -> str:
    """Put the error or the interval of a value below it."""
    return cell.replace(" ± ", "\n± ").replace(" (", "\n").removesuffix(")")


def _title(measured: "Measured") -> str:
    """Name both sides and the machine."""
    from hubq.stages.compare.comparison import entry

    this = entry(measured)
    return f"{this.name} compared with {this.base}, on {measured.device} in {measured.dtype}"


def _flips(flips: "Flips") -> str:
    """Write what was lost and won, and how many answers changed at all where these are more."""
    others = flips.changed > flips.lost + flips.won
    return f"-{flips.lost} +{flips.won}" + (f" of {flips.changed}" if others else "")


def _facts(measured: "Measured") -> Iterator[tuple[str, str]]:
    """Yield what stands below the table; what was not measured is said to be so."""
    from hubq.records.adapted_report import AdaptedReport
    from hubq.records.number_format import NOT_MEASURED, share
    from hubq.records.report import Report
    from hubq.stages.evaluate.requirements import unmet

    overall = measured.overall
    if overall is not None:
        yield (
            "recovery",
            f"{share(overall.recovery)} of the base's mean accuracy: {overall.value:.4f} of "
            f"{overall.base:.4f} ({', '.join(overall.accuracies)})",
        )
    guessed = [each.accuracy for each in measured.left_out if each.reason == "guessing"]
    if guessed:
        yield "", f"the base is no better than guessing in {', '.join(guessed)}"
    fidelity, efficiency = measured.fidelity, measured.efficiency
    yield "fidelity", NOT_MEASURED if fidelity is None else _followed(measured, fidelity)
    if fidelity is not None and isinstance(measured, AdaptedReport) and measured.adaptation.taught:
        yield "", "what is learnt from other data moves a model away from its base, as it should"
    if efficiency is None:
        yield "efficiency", NOT_MEASURED
    else:
        yield from _costs(efficiency)
    if isinstance(measured, Report):
        for sentence in unmet(measured):
            yield "budget", f"missed: {sentence}"


def _followed(measured: "Measured", fidelity: "Fidelity") -> str:
    """Say how closely the base was followed, and how closely it follows itself."""
    from hubq.records.number_format import no_floor, number, share

    found, floor = fidelity.result, fidelity.floor
    own = no_floor(measured) if floor is None else number(floor.mean.value)
    return (
        f"KL divergence: mean {number(found.mean.value)} nats, median {number(found.median)}, "
        f"99th percentile {number(found.percentile_99)} (the base's own noise: {own}); same next "
        f"token: {share(found.agreement)}; on {number(found.tokens)} tokens of {fidelity.dataset}"
    )


def _costs(efficiency: "Efficiency") -> Iterator[tuple[str, str]]:
    """Yield what the result takes beside its base, and how that was measured."""
    from hubq.records.number_format import how_decoded, number, percent

    own, base = efficiency.result, efficiency.base
    sizes = (
        ("on disk", own.weight_bytes, base.weight_bytes),
        ("loaded", own.memory_loaded, base.memory_loaded),
        ("at peak", own.memory_peak, base.memory_peak),
        ("of the host", own.memory_host, base.memory_host),  # beside a GPU
    )
    spelled = (
        f"{name} {gigabytes(this)} (base {gigabytes(other)})"
        for name, this, other in sizes
        if this is not None and other is not None
    )
    yield "memory", ", ".join(spelled)
    times = [
        f"{number(own.tokens_per_second.value)} tokens per second "
        f"(base {number(base.tokens_per_second.value)})",
        f"first token after {number(own.first_token_seconds.value)} s (base "
        f"{number(base.first_token_seconds.value)} s)",
        f"loaded in {number(own.load_seconds)} s (base {number(base.load_seconds)} s)",
    ]
    if own.joules_per_token is not None and base.joules_per_token is not None:
        joules = (number(each.joules_per_token) for each in (own, base))
        times.append("{} J per token (base {} J)".format(*joules))
    yield "speed", ", ".join(times)
    yield (
        "",
        f"{efficiency.batch} x {efficiency.prompt} tokens in, {efficiency.output} out, "
        f"{efficiency.engine} on {efficiency.hardware}",
    )
    if said := how_decoded(efficiency):
        yield "", said
    contended = max(each.contention or 0 for each in (own, base))
    if contended >= BUSY:
        yield (
            "",
            f"the machine was busy: other programs used the cores {percent(contended)} of the time",
        )
