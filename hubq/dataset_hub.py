"""Texts on the Hub: the study's three by name, and any data set that lies there as files."""

from hubq.client import Client
from hubq.dataset import Corpus, Purpose
from hubq.recipe import DatasetSection


def hub_corpus(dataset: DatasetSection, client: Client, *, purpose: Purpose) -> Corpus:
    """Read a data set of the Hub, named or by id."""
    raise NotImplementedError
