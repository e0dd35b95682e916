"""The tables of docs/engines.md, made of engines.json."""

from pathlib import Path

from hubq.records.engine_tests import Attempt, Engine, EngineTests
from hubq.stages.lint.serving import Stored, serving

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
BEGIN = "<!-- what follows is made by `make engines` -->\n"
MARKS = {True: "✓", False: "✗", None: "?"}
HEAD = (
    "| linears | loads | likelihoods off | by the dtype alone | likeliest tokens | gap |\n"
    "|---|:-:|---:|---:|---:|---:|\n"
)


def refresh(tests: EngineTests, page: Path = PAGE) -> None:
    """Write the tables anew, below the text that people wrote."""
    text, _, _ = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(text + BEGIN + tables(tests), encoding="utf-8")


def tables(tests: EngineTests) -> str:
    """Return a section for each engine."""
    return "".join(map(_section, tests.engines))


def _section(engine: Engine) -> str:
    if engine.absent is not None:
        return f"\n## {engine.name}\n\nNot installed on {engine.date}: {engine.absent}.\n"
    settings = f", with `{engine.settings}`" if engine.settings else ""
    where = f"{engine.machine}{settings}, {engine.date}; {engine.tests[0].model}."
    rows = "".join(_row(engine, each) for each in engine.tests)
    title = f"{engine.name} {engine.version} on a {engine.device}"
    return f"\n## {title}\n\n{where}\n\n{HEAD}{rows}"


def _row(engine: Engine, one: Attempt) -> str:
    """Return what came of one model; the mark is that of cards."""
    mark = MARKS[serving(engine.name, Stored("LlamaForCausalLM", (one.layout,))).loads]
    if one.numbers is None:
        return f"| {one.layout} | {mark} | refused: {_cell(one.said or '')} | | | |\n"
    it = one.numbers
    return (
        f"| {one.layout} | {mark} | {it.distance:.3f} | {it.noise:.3f} "
        f"| {it.equal} of {it.written} | {it.gap:.3f} |\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")
