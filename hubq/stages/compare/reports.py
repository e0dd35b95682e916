"""Where measurements lie: a run, a card's folder, a record of `hubq evaluate`, a repo on a Hub."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.report import Assessment, Measured, Report, Subject
from hubq.records.run_folder import PLAN, REPORT, record_in
from hubq.stages.compare.comparison import entry
from hubq.stages.compare.siblings import report_on_hub


def gather(words: Sequence[str], client: Client) -> list[Measured]:
    """Read what was measured of each model; raise UserError that lists all that can't be read.

    A word is a folder with a report (a run's, a card's or a repo's), the file of a record, or
    org/name with an optional @revision: of a repo only the report is fetched.
    """
    found, mistakes = [], []
    for word in words:
        try:
            found.append(_read(_record(word, client)))
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UserError("\n".join(mistakes))
    return _told_apart(found, words)


def _record(word: str, client: Client) -> Path:
    """Return the file of a record on this machine."""
    path = Path(word).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(path)
    if word.startswith((".", "/", "~")) or word.partition("@")[0].count("/") != 1:
        raise UserError(f"there is neither a folder nor a file {word}; a repo is org/name")
    found = report_on_hub(word, client)
    if found is None:
        raise UserError(
            f"{word} was not published by hubq: it holds no report of measurements.\n"
            f"Measure it: hubq evaluate --model {word} --against BASE"
        )
    return found


def _in_folder(folder: Path) -> Path:
    if (found := record_in(folder, REPORT)) is not None:
        return found
    if (folder / PLAN).is_file():
        raise UserError(f"{folder} is a run that was not measured yet; hubq evaluate its recipe")
    raise UserError(
        f"{folder} holds no {REPORT}, so nothing is known of it.\n"
        f"Measure it: hubq evaluate --model {folder} --against BASE"
    )


def _read(path: Path) -> Measured:
    """Read a record of either kind."""
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} holds no measurements: it is no JSON ({error})") from error
    is_assessment = isinstance(values, dict) and "subject" in values
    return (Assessment if is_assessment else Report).load(path)


def _told_apart(found: Sequence[Measured], words: Sequence[str]) -> list[Measured]:
    """Add to names that several models have where each comes from."""
    counts = Counter(entry(each).name for each in found)
    return [
        _named(each, f"{name} ({word})") if counts[name := entry(each).name] > 1 else each
        for each, word in zip(found, words, strict=True)
    ]


def _named(measured: Measured, name: str) -> Measured:
    """Give a model another name."""
    if isinstance(measured, Report):
        plan = measured.plan.model_copy(update={"repo": name})
        return measured.model_copy(update={"plan": plan})
    assert isinstance(measured, Assessment), "there are two kinds of what was measured"
    subject: Subject = measured.subject.model_copy(update={"name": name})
    return measured.model_copy(update={"subject": subject})
