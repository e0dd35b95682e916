"""CHANGELOG.md of a repo: a pure function of its versions, newest first."""

from collections.abc import Iterator

from hubq.machine.files import gigabytes
from hubq.records.number_format import NOT_MEASURED, number, ranged
from hubq.records.report import Interval
from hubq.records.run_folder import IN_A_REPO, VERSIONS
from hubq.records.versions import Number, Version, Versions
from hubq.stages.card.sections.markdown import cell


def changelog(versions: Versions) -> str:
    """Write what each version is and what it changed."""
    lines = [
        "# Changelog",
        "",
        'Every version stays under its tag: `revision="v1"` loads the first. Intervals hold 95 % '
        "of what chance",
        "would make of other items; of speeds, the least and the greatest of the repetitions.",
        f"hubq wrote this from `{IN_A_REPO}/{VERSIONS}`.",
    ]
    older = (None, *versions.entries[:-1])
    for before, version in reversed(list(zip(older, versions.entries, strict=True))):
        lines += ["", *_section(before, version)]
    return "\n".join(lines) + "\n"


def _section(before: Version | None, version: Version) -> Iterator[str]:
    """Yield the lines of one version."""
    yield f"## {version.name}, {version.date}"
    yield ""
    if version.tag and version.commit:
        yield f"- tag `{version.tag}`, commit `{version.commit}`"
    else:
        yield "- on `main`"
    yield f"- recipe `{version.recipe}`: `{version.method}` in the format `{version.form}`"
    yield f"- {_bits(version)}"
    yield f"- base `{version.base}`"
    if before is None:
        return
    yield ""
    yield f"Changed since {before.name} (tag `{before.tag}`):"
    yield ""
    yield from [f"- `{each}`" for each in version.settings] or ["- no setting"]
    if version.numbers:
        yield ""
        yield from _told(before, version)


def _bits(version: Version) -> str:
    """Say what a version takes."""
    size = "size not known" if version.weight_bytes is None else gigabytes(version.weight_bytes)
    if version.linear_bits is None or version.model_bits is None:
        return f"{size}; bits not known"
    return (
        f"{size}: {number(version.linear_bits)} stored bits per weight of the linears, "
        f"{number(version.model_bits)} per parameter of the whole file"
    )


def _told(before: Version, version: Version) -> Iterator[str]:
    """Yield what got worse, and every number old and new."""
    if worse := [each for each in version.numbers if each.verdict == "worse"]:
        yield f"**Worse than {before.name}, beyond the noise:**"
        yield ""
        yield from (f"- {got_worse(each)}" for each in worse)
        yield ""
    yield f"| measured | {before.name} | {version.name} | |"
    yield "|---|---:|---:|---|"
    for each in version.numbers:
        old, new = _spelled(each.before), _spelled(each.after)
        yield f"| {cell(each.title)} | {old} | {new} | {each.verdict or ''} |"


def _spelled(value: Interval | None) -> str:
    return NOT_MEASURED if value is None else ranged(value)


def got_worse(each: Number) -> str:
    """Say what a number was and is."""
    return f"{cell(each.title)}: {_spelled(each.before)} → {_spelled(each.after)}"
