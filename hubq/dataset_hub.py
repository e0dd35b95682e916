"""Texts on the Hub: the study's three by name, and any data set that lies there as files.

Only files of text are read. A data set that is a program (a loading script) is refused: its
code would run here, and today's libraries refuse it too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, NamedTuple

from hubq.client import Client
from hubq.dataset import BLANK_LINE, SUFFIXES, Corpus, Purpose, documents, joined_text
from hubq.errors import UserError, did_you_mean
from hubq.hub_names import address
from hubq.recipe_inputs import DatasetSection
from hubq.remote import DATASETS, commit_of, fetch_listed

DEFAULT_SPLIT: Mapping[Purpose, str] = {"calibration": "train", "evaluation": "test"}
CALIBRATION_DOCUMENTS = 10_000  # training splits can be larger than the machine
ALL = None


@dataclass(frozen=True)
class Named:
    """A text that papers name, with the one way in which hubq reads it."""

    title: str
    repo: str
    files: Mapping[Purpose, str]
    field: str
    between: str
    first: Mapping[Purpose, int | None]  # documents
    revision: str | None = None
    most: int | None = ALL  # tokens that are evaluated


NAMED: Mapping[str, Named] = {
    "wikitext2": Named(
        title="WikiText-2",
        repo="Salesforce/wikitext",
        files={
            "calibration": "wikitext-2-raw-v1/train-00000-of-00001.parquet",
            "evaluation": "wikitext-2-raw-v1/test-00000-of-00001.parquet",
        },
        field="text",
        between=BLANK_LINE,
        first={"calibration": ALL, "evaluation": ALL},
    ),
    # The newer of the two loaders in use: documents in their order, not random crops.
    "c4": Named(
        title="C4",
        repo="allenai/c4",
        files={
            "calibration": "en/c4-train.00000-of-01024.json.gz",
            "evaluation": "en/c4-validation.00000-of-00008.json.gz",
        },
        field="text",
        between=" ",
        first={"calibration": CALIBRATION_DOCUMENTS, "evaluation": 1100},
        most=256 * 2048,
    ),
    # The repo's own branch holds a script; the Hub's conversion holds the same rows as files.
    "ptb": Named(
        title="Penn Treebank",
        repo="ptb-text-only/ptb_text_only",
        files={
            "calibration": "penn_treebank/train/0000.parquet",
            "evaluation": "penn_treebank/test/0000.parquet",
        },
        field="sentence",
        between=" ",
        first={"calibration": ALL, "evaluation": ALL},
        revision="refs/convert/parquet",
    ),
}


class Pinned(NamedTuple):
    """A data set at one commit, and what it holds."""

    repo: str
    commit: str
    names: Sequence[str]
    configs: Sequence[Mapping[str, Any]]  # `configs` in the metadata of its card


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
    named = NAMED.get(dataset.name or "")
    return named.most if named else ALL


def hub_corpus(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> Corpus:
    """Read a data set of the Hub, named or by id."""
    found = located(dataset, client, purpose=purpose)
    pinned = found.pinned
    texts = _documents(pinned, found.files, found.field, client)
    return Corpus(
        joined_text(texts, found.title, between=found.between, first=found.first),
        found.title,
        f"{pinned.repo}@{pinned.commit} ({_rule(found.field, found.first, found.between)})",
    )


def located(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> Located:
    """Find the files of a data set, named or by id; raise UserError where there are none."""
    if dataset.name is not None:
        return _located_by_name(dataset, client, purpose)
    assert dataset.hub is not None
    repo, revision = address(dataset.hub)
    pinned = _pin(repo, revision, client)
    split = dataset.split or DEFAULT_SPLIT[purpose]
    return Located(
        pinned=pinned,
        files=files_of(pinned, dataset.subset, split),
        title=f"{repo}{f' {dataset.subset}' if dataset.subset else ''} ({split})",
        field=dataset.field,
        between=BLANK_LINE,
        first=CALIBRATION_DOCUMENTS if purpose == "calibration" else ALL,
    )


def _located_by_name(dataset: DatasetSection, client: Client, purpose: Purpose) -> Located:
    """Find a text in the way that its name stands for."""
    name = dataset.name
    assert name is not None
    if name not in NAMED:
        raise UserError(f"no text is called {name}; {did_you_mean(name, NAMED)}")
    for option in ("subset", "split", "field"):
        if getattr(dataset, option) is not None:
            raise UserError(f"{name} has its own {option}: remove it, or use `hub:` with an id")
    named = NAMED[name]
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


def _pin(repo: str, revision: str | None, client: Client) -> Pinned:
    """Ask the Hub which commit a revision is, and what it holds."""
    with client.speaking(f"looking up the data set {repo}"):
        info = client.patience.keep_trying(
            lambda: client.api().dataset_info(repo, revision=revision)
        )
        commit = commit_of(info)
    card = info.card_data.to_dict() if info.card_data else {}
    names = [each.rfilename for each in info.siblings or ()]
    return Pinned(repo, commit, names, card.get("configs") or [])


def _documents(
    pinned: Pinned, files: Sequence[str], field: str | None, client: Client
) -> Iterator[str]:
    """Fetch files one after another, each only when its turn comes, and yield their documents."""
    for name in files:
        with client.speaking(f"fetching {name} of the data set {pinned.repo}"):
            path = fetch_listed(client, f"{DATASETS}{pinned.repo}", name, pinned.commit)
        yield from documents(path, field)


def files_of(pinned: Pinned, subset: str | None, split: str) -> list[str]:
    """Choose the files of a subset and split: as the card says, else by their paths."""
    readable = [name for name in pinned.names if name.removesuffix(".gz").endswith(SUFFIXES)]
    found = (
        _by_card(pinned, readable, subset, split)
        if pinned.configs
        else _by_path(pinned, readable, subset, split)
    )
    if not found:
        raise UserError(_nothing_found(pinned, readable, subset, split))
    return sorted(found)


def _by_card(pinned: Pinned, readable: Sequence[str], subset: str | None, split: str) -> list[str]:
    """Follow the `configs` of the card: patterns of files for each split."""
    configs = {str(each.get("config_name", "default")): each for each in pinned.configs}
    name = subset or ("default" if "default" in configs else min(configs))
    if name not in configs or (subset is None and len(configs) > 1 and "default" not in configs):
        known = ", ".join(sorted(configs))
        raise UserError(f"{pinned.repo}: name its `subset`; there are {known}")
    listed = configs[name].get("data_files") or []
    by_split = isinstance(listed, list) and all(isinstance(each, dict) for each in listed)
    entries = listed if by_split else [{"split": "train", "path": listed}]
    patterns = [
        pattern
        for entry in entries
        if entry.get("split") == split
        for pattern in ([entry["path"]] if isinstance(entry["path"], str) else entry["path"])
    ]
    return [name for name in readable if any(fnmatch(name, pattern) for pattern in patterns)]


def _by_path(pinned: Pinned, readable: Sequence[str], subset: str | None, split: str) -> list[str]:
    """Take files whose path has the subset as a folder and the split as a word."""
    word = re.compile(rf"(?:^|[/._-]){re.escape(split)}(?:[/._-]|$)")
    found = [name for name in readable if word.search(name)]
    if subset is not None:
        found = [name for name in found if subset in name.split("/")[:-1]]
    folders = {name.rpartition("/")[0] for name in found}
    if len(folders) > 1:
        there = ", ".join(sorted(folders)[:10])
        raise UserError(f"{pinned.repo}: name the `subset`, a folder; there are {there}")
    columnar = [name for name in found if name.endswith(".parquet")]
    return columnar or found


def _nothing_found(pinned: Pinned, readable: Sequence[str], subset: str | None, split: str) -> str:
    """Say why a data set has no such files, and the way out."""
    if not readable and any(name.endswith(".py") for name in pinned.names):
        return (
            f"{pinned.repo} is a loading script, and hubq runs no code of data sets; "
            f"try {pinned.repo}@refs/convert/parquet, the Hub's own conversion"
        )
    where = f"subset {subset}, split {split}" if subset else f"split {split}"
    there = ", ".join(readable[:5]) or f"no {', '.join(SUFFIXES)} file"
    return f"{pinned.repo} has no files of {where}; it holds {there}. Set `subset` and `split`"
