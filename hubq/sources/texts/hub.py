"""Texts on the Hub: the study's three by name, and any data set that lies there as files.

Only files of text are read. A data set that is a program (a loading script) is refused: its
code would run here, and today's libraries refuse it too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubq.client.client import Client
from hubq.client.repo_files import DATASETS, commit_of, fetch_listed
from hubq.errors import UserError
from hubq.records.named_texts import (
    ALL,
    BLANK_LINE,
    CALIBRATION_DOCUMENTS,
    NAMED_TEXTS,
    Purpose,
)
from hubq.records.recipe_inputs import DatasetSection
from hubq.records.vocabulary import Address, address
from hubq.sources.texts.corpus import Corpus, joined_text
from hubq.sources.texts.documents import Reading, documents
from hubq.sources.texts.first_rows import require_first_rows
from hubq.sources.texts.hub_files import Pinned, files_of

DEFAULT_SPLIT: Mapping[Purpose, str] = {"calibration": "train", "evaluation": "test"}


@dataclass(frozen=True)
class Located:
    """A text on the Hub, found but not read."""

    pinned: Pinned
    files: Sequence[str]
    title: str
    field: str | None
    between: str
    first: int | None  # documents


def most_tokens(dataset: DatasetSection) -> int | None:
    """Return how many tokens of a named text papers evaluate at most; None: all."""
    named = NAMED_TEXTS.get(dataset.name or "")
    return named.most if named else ALL


def hub_corpus(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> Corpus:
    """Read a data set of the Hub, named or by id."""
    found = located(dataset, client, purpose=purpose)
    pinned = found.pinned
    reading = Reading()
    texts = _documents(found, client, reading)
    joined = joined_text(texts, found.title, between=found.between, first=found.first)
    how = f"{_rule(found.field, found.first, found.between)}{reading.note()}"
    return Corpus(joined, found.title, f"{pinned.repo}@{pinned.commit} ({how})")


def require_on_hub(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> None:
    """Raise UserError for a data set that isn't there, or whose first rows have no such field."""
    found = located(dataset, client, purpose=purpose)
    if dataset.name is None:  # those with names are known
        require_first_rows(found.pinned, found.files[0], found.field, client)


def located(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> Located:
    """Find the files of a data set, named or by id; raise UserError where there are none."""
    if dataset.name is not None:
        return _located_by_name(dataset, client, purpose)
    assert dataset.hub is not None
    repo, revision = address(dataset.hub)
    pinned = _pin(repo, revision, client)
    default = DEFAULT_SPLIT[purpose]
    split, files = files_of(pinned, dataset.subset, dataset.split, default=default)
    return Located(
        pinned=pinned,
        files=files,
        title=f"{repo}{f' {dataset.subset}' if dataset.subset else ''} ({split})",
        field=dataset.field,
        between=BLANK_LINE,
        first=CALIBRATION_DOCUMENTS if purpose == "calibration" else ALL,
    )


def _located_by_name(dataset: DatasetSection, client: Client, purpose: Purpose) -> Located:
    """Find a text in the way that its name stands for."""
    name = dataset.name
    assert name is not None
    for option in ("subset", "split", "field"):
        if getattr(dataset, option) is not None:
            raise UserError(f"{name} sets {option} itself: remove it, or use `hub:` with an id")
    named = NAMED_TEXTS[name]
    file = named.files[purpose]
    return Located(
        pinned=_pin(named.repo, named.revision, client),
        files=[file],
        title=f"{named.title} ({DEFAULT_SPLIT[purpose] if name != 'c4' else file})",
        field=named.field,
        between=named.between,
        first=named.first[purpose],
    )


def _rule(field: str | None, first: int | None, between: str) -> str:
    """Say which documents were taken and how they were joined."""
    which = f"at most {first} documents" if first else "all documents"
    joint = "a blank line" if between == BLANK_LINE else "a space"
    return f"field {field or 'text'}, {which} joined by {joint}"


def place_of(dataset: DatasetSection) -> Address | None:
    """Return where a data set lies on the Hub, named or by id; None: it lies elsewhere."""
    if (named := NAMED_TEXTS.get(dataset.name or "")) is not None:
        return Address(named.repo, named.revision)
    return None if dataset.hub is None else address(dataset.hub)


def commits_of(dataset: DatasetSection, client: Client) -> dict[str, str]:
    """Return at which commit a data set of the Hub is, as a plan keeps it; nothing of another."""
    place = place_of(dataset)
    return {} if place is None else {asked_for(*place): _pin(*place, client).commit}


def asked_for(repo: str, revision: str | None) -> str:
    """Name a data set as a plan keeps its commit."""
    return repo if revision is None else f"{repo}@{revision}"


def _pin(repo: str, revision: str | None, client: Client) -> Pinned:
    """Ask the Hub which commit a revision is, unless a plan says that, and what it holds."""
    from hubq.sources.base_card import license_of

    revision = client.pinned_data.get(asked_for(repo, revision), revision)
    with client.translate_errors(f"looking up the data set {repo}"):
        info = client.retries.call(lambda: client.api().dataset_info(repo, revision=revision))
        commit = commit_of(info)
    card = info.card_data.to_dict() if info.card_data else {}
    names = [each.rfilename for each in info.siblings or ()]
    return Pinned(repo, commit, names, card.get("configs"), license_of(card))


def _documents(found: Located, client: Client, reading: Reading) -> Iterator[str]:
    """Yield the documents of all files."""
    for path in fetched(found, client):
        yield from documents(path, found.field, reading)


def fetched(found: Located, client: Client) -> Iterator[Path]:
    """Fetch files one after another, each only when its turn comes."""
    repo, commit = found.pinned.repo, found.pinned.commit
    for name in found.files:
        with client.translate_errors(f"fetching {name} of the data set {repo}"):
            path = fetch_listed(client, f"{DATASETS}{repo}", name, commit)
        yield path
